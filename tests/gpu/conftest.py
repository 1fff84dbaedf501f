"""What all tests on a GPU need: the GPU, and float32 that is comparable with a CPU's."""

from collections.abc import Iterator

import gpu
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def gpu_or_skip() -> None:
    if not gpu.is_there():
        pytest.skip("needs a CUDA GPU, and torch finds none here")


@pytest.fixture
def no_tf32() -> Iterator[None]:
    """Multiply float32 as a CPU does, without rounding to the 10 bits of TF32."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, was_allowed in zip(switches, before, strict=True):
        switch.allow_tf32 = was_allowed
