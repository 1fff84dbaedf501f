"""The models, and how to build one from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from models.dual_backbone import DualBackbone
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.general import UserError

MODELS = {model.kind: model for model in (DetectionModel, YOLOv5WithClassification, DualBackbone)}


def model_from_checkpoint(
    content: Mapping[str, object], weights: Mapping[str, Tensor], source: str | Path
) -> nn.Module:
    """The architecture a checkpoint describes, with the given ones of its weights.

    Raises:
        UserError: a kind of model that is unknown here, or weights that do not fit it.
    """
    if content["kind"] not in MODELS:
        raise UserError(f"{source}: model of kind '{content['kind']}', expected {', '.join(MODELS)}")
    model = MODELS[content["kind"]](**content["arguments"])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{source}: the weights do not fit the model: {str(error).splitlines()[-1].strip()}") from None
    return model
