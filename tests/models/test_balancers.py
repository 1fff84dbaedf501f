"""Fixed weights stay as they are."""

import torch

from models.balancers import fixed_weights
from utils.core.names import TASKS

MISSION = {"detection": 1.0, "classification": 0.01}


def losses(detection: float, classification: float) -> dict[str, torch.Tensor]:
    values = (detection, classification)
    return {
        task: torch.tensor(value, dtype=torch.float64)
        for task, value in zip(TASKS, values, strict=True)
    }


def test_fixed_weights_combine_and_never_change():
    balancer = fixed_weights(1.0, 0.01)
    assert balancer.combine(losses(2, 100)).item() == 3.0
    assert not balancer.wants_gradients
    assert balancer.observe(losses(2, 100), None) is None
    assert balancer.weights == MISSION
