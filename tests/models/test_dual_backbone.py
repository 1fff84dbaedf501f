"""Two networks in one model: their sizes and their first values."""

from pathlib import Path

import pytest
import torch
from small_runs import assert_equal, small_options

import train_joint_dual_backbone as script
from models.common import CBAM
from models.dual_backbone import DualBackbone
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.commands.train_joint_dual_backbone import PARTS
from utils.core.options import DualOptions

DEFAULTS = DualOptions()


@pytest.fixture(scope="module")
def options(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return small_options(tiny_data, tmp_path_factory.mktemp("cfg"), script)


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_detector_is_the_joint_models_and_the_classifier_is_small():
    dual = DualBackbone(DEFAULTS.cfg, DEFAULTS.classifier_cfg, nc=4, views=3)
    joint = YOLOv5WithClassification("models/yolov5s_joint.yaml", nc=4, views=3)
    detection_part = {
        n: t.shape for n, t in joint.state_dict().items() if not n.startswith("model.25.")
    }
    assert {n: t.shape for n, t in dual.detector.state_dict().items()} == detection_part
    sizes = {
        part: sum(p.numel() for p in getattr(dual, part).parameters()) for part in PARTS.values()
    }
    assert sizes["detector"] == 7_030_417
    assert sizes["classifier"] * 5 < sizes["detector"]
    assert sum(isinstance(module, CBAM) for module in dual.classifier.modules()) == 3


def test_a_seed_gives_the_detector_the_weights_it_has_alone():
    torch.manual_seed(3)
    dual = DualBackbone(DEFAULTS.cfg, DEFAULTS.classifier_cfg, nc=4, views=3)
    torch.manual_seed(3)
    assert_equal(copy_of(dual.detector), copy_of(DetectionModel(DEFAULTS.cfg, nc=4)))


def test_the_classifiers_yaml_sets_depth_and_width(options):
    narrow = DualBackbone(options["cfg"], options["classifier_cfg"], nc=4, views=5).classifier
    assert narrow.model[0].conv.out_channels == 8
    assert narrow(torch.zeros(1, 3, 64, 96))["classify"].shape == (1, 5)
