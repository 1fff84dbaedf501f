"""An exported model, run by onnxruntime in the place of a PyTorch one."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from utils.checkpoints.checkpoint import reason_of
from utils.core.names import TASKS
from utils.core.script import UserError

OUTPUTS = dict(zip(TASKS, ("boxes", "views"), strict=True))  # task -> its output's name


def import_extra(package: str) -> ModuleType:
    """An optional package of the extra `export`.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"ONNX needs the package {package} ({error}); install it: pip install '.[export]'"
        ) from None


class OnnxModel(nn.Module):
    """Called as the models are, with images (B, 3, H, W) in [0, 1]; computes on the CPU.

    Args:
        content: of an .onnx file.
        source: the file's name, for errors.

    Attributes:
        properties: the file's metadata.
        outputs: names of the file's outputs.
        tasks: those there is an output for.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the model.
    """

    def __init__(self, content: bytes, source: str | Path):
        super().__init__()
        runtime = import_extra("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        try:
            self._session = runtime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # a damaged file can raise anything
            raise UserError(
                f"{source}: not a readable ONNX model ({reason_of(error)}); is the file complete?"
            ) from None
        self.properties = dict(self._session.get_modelmeta().custom_metadata_map)
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        self.tasks = tuple(task for task in TASKS if OUTPUTS[task] in self.outputs)

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The file's outputs by name."""
        arrays = self._session.run(None, {"images": images.cpu().contiguous().numpy()})
        return dict(zip(self.outputs, map(torch.from_numpy, arrays), strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs of the tasks there are, as of the other models.

        Returns:
            "detect": what `decode` takes; "classify": (B, views) logits.
        """
        found = self.run(images)
        outputs = {}
        if "boxes" in found:
            outputs["detect"] = found["boxes"]
        if "views" in found:
            # Probabilities' logarithms are logits: their softmax gives the probabilities back.
            outputs["classify"] = found["views"].log()
        return outputs

    def decode(self, boxes: Tensor) -> Tensor:
        """(B, N, 5 + nc), decoded already in the graph, see `models.yolo.decode`."""
        return boxes
