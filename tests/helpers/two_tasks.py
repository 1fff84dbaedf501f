"""Made-up losses of the two tasks, and the weights that tests start with."""

import torch

from utils.core.names import TASKS

EQUAL = {"detection": 1.0, "classification": 1.0}
MISSION = {"detection": 1.0, "classification": 0.01}


def losses(detection: float, classification: float) -> dict[str, torch.Tensor]:
    values = (detection, classification)
    return {
        task: torch.tensor(value, dtype=torch.float64)
        for task, value in zip(TASKS, values, strict=True)
    }
