"""Suppression class by class is torchvision's, without the import of torchvision."""

import subprocess
import sys

import pytest
import torch
import torchvision

from utils.core.files import ROOT
from utils.data.nms import MANY, batched_nms


@pytest.mark.parametrize("count", [0, 1, 100, MANY["cpu"], MANY["cpu"] + 1, 3000])
def test_the_boxes_kept_are_those_of_torchvision(count: int):
    generator = torch.Generator().manual_seed(count)
    boxes_xyxy = torch.rand(count, 4, generator=generator) * 100
    boxes_xyxy[:, 2:] += boxes_xyxy[:, :2]
    score = torch.rand(count, generator=generator).sort(descending=True).values
    label = torch.randint(0, 5, (count,), generator=generator).float()
    expected = torchvision.ops.batched_nms(boxes_xyxy, score, label, 0.45)
    assert torch.equal(batched_nms(boxes_xyxy, score, label, 0.45), expected)
    assert len(expected) < count or count < 2


def test_detection_imports_nothing_that_takes_seconds():
    program = """
import sys, torch, utils.commands.detect
from utils.data.nms import batched_nms
batched_nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), torch.zeros(1), 0.5)
print([name for name in ("torchvision", "torch._dynamo", "sympy") if name in sys.modules])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
