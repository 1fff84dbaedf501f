"""The moving average of the weights follows YOLOv5's ramp."""

import numpy as np
import torch

from utils.core.device import frozen_copy
from utils.training.learner import ModelEMA


def test_ema_follows_yolov5s_ramp():
    model = torch.nn.BatchNorm1d(2)
    average = frozen_copy(model)
    ema = ModelEMA(model, average)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(5.0)
    ema.update()
    keep = 0.9999 * (1 - np.exp(-1 / 2000))
    torch.testing.assert_close(average.weight, torch.full((2,), keep * 1.0 + (1 - keep) * 3.0))
    torch.testing.assert_close(average.running_mean, torch.full((2,), (1 - keep) * 5.0))
