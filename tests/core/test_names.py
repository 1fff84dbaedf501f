"""Every name that several parts agree on stands for something, and GradNorm's files, which repeat
some, agree.
"""

import pytest
import torch

from models import gradnorm, gradnorm_loss
from models.gradnorm_balancer import GradNorm, LossWeighting
from models.yolo import YOLOv5WithClassification
from utils.commands.train_joint_gradnorm import build_balancer
from utils.core import names
from utils.core.files import ROOT
from utils.core.hyperparameters import HyperParameters
from utils.losses.joint import joint_loss, task_losses


def test_gradnorm_which_people_copy_repeats_the_names_truly():
    assert gradnorm_loss.TASKS == names.TASKS
    assert gradnorm.RULES == names.GRADNORM_RULES
    assert gradnorm.PLACES == names.GRADNORM_PLACES


@pytest.mark.parametrize("name", names.BALANCERS)
def test_every_balancer_is_implemented(name: str):
    balancer = build_balancer(HyperParameters(balancer=name), names.TASKS, views=3)
    assert isinstance(balancer, LossWeighting)
    assert tuple(balancer.weights) == names.TASKS
    assert balancer.combines_gradients == (name in names.TORCHJD_AGGREGATORS)


@pytest.mark.parametrize("rule", names.GRADNORM_RULES)
@pytest.mark.parametrize("place", names.GRADNORM_PLACES)
def test_every_rule_and_place_is_implemented(rule: str, place: str):
    balancer = GradNorm(dict.fromkeys(names.TASKS, 1.0), interval=1, rule=rule, place=place)
    losses = dict.fromkeys(names.TASKS, torch.tensor(1.0))
    norms = dict(zip(names.TASKS, (1.0, 2.0), strict=True))
    assert balancer.observe(losses, gradnorm.TaskGradients(norms))
    assert balancer.weights["detection"] > balancer.weights["classification"]


def test_every_loss_comes_out_of_the_joint_criterion_and_belongs_to_a_task():
    model = YOLOv5WithClassification(ROOT / "models" / "yolov5n_joint.yaml", nc=2, views=3)
    criterion = joint_loss(model.detect, HyperParameters(), image_size=64)
    one_box = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.4]])
    batch = {"views": torch.tensor([2, -1]), **criterion.matcher(one_box, 64, 64)}
    losses = criterion(model(torch.zeros(2, 3, 64, 64)), batch)
    assert tuple(losses) == names.LOSSES
    assert tuple(task_losses(losses)) == names.TASKS
