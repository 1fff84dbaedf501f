"""Two networks that share nothing: a YOLOv5 that detects, and a small classifier of the view.

No parameter is common to both, so no gradient of one task reaches the other: what interference
costs a shared network is the difference to this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from models.common import Detect, ViewHead
from models.graph import LayerGraph, load_model_yaml, source_of
from models.yolo import DetectionModel
from utils.core.names import TASKS
from utils.core.script import UserError


class ViewClassifier(LayerGraph):
    """YOLOv5 layers with convolutional block attention (`models.common.CBAM`) and a view head.

    Args:
        cfg: a model YAML's path or content, whose last layer is a `ViewHead`.
        views: number of views.
    """

    def __init__(self, cfg: str | Path | Mapping, views: int = 3):
        self.cfg = load_model_yaml(cfg, required=("backbone", "head"))
        super().__init__(self.cfg, {"views": views}, source_of(cfg))
        self.view_count = views
        self.view_index = self.index_of(ViewHead)
        if self.model[self.view_index].stop_gradient:
            raise UserError(
                f"{self.source}: a view head behind a stop-gradient; "
                "nothing would train the layers before"
            )
        if self.view_index != len(self.model) - 1 or self.indices_of(Detect):
            raise UserError(f"{self.source}: expected one ViewHead, the last layer, and no Detect")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) in [0, 1] -> {"classify": (B, views) logits}."""
        return {"classify": self.run(range(len(self.model)), {-1: images})[self.view_index]}


class DualBackbone(nn.Module):
    """Detector and classifier side by side; each can be run, trained and frozen without the other.

    Args:
        cfg: the detector's model YAML, path or content.
        classifier_cfg: the classifier's.
        nc: number of box classes; the detector's YAML's `nc` if None.
        views: number of views.
        size: of the detector, see `models.yolo.sized`.
    """

    kind = "dual"
    tasks = TASKS
    detection_path = "detector."

    def __init__(
        self,
        cfg: str | Path | Mapping,
        classifier_cfg: str | Path | Mapping,
        nc: int | None = None,
        views: int = 3,
        size: str = "",
    ):
        super().__init__()
        # The detector first, so that a seed gives it the weights it would have alone.
        self.detector = DetectionModel(cfg, nc, size)
        self.classifier = ViewClassifier(classifier_cfg, views)

    @property
    def detect(self) -> Detect:
        """The detection layer."""
        return self.detector.detect

    def forward(self, images: Tensor) -> dict[str, object]:
        """(B, 3, H, W) in [0, 1] -> {"detect": raw maps, "classify": (B, views) logits}."""
        return {**self.detector(images), **self.classifier(images)}

    def decode(self, raw_maps: list[Tensor]) -> Tensor:
        """Raw maps -> (B, N, 5 + nc), see `models.yolo.decode`."""
        return self.detector.decode(raw_maps)

    def arguments(self) -> dict[str, object]:
        """What `type(self)(**arguments)` needs to build this architecture again; plain values."""
        return {
            **self.detector.arguments(),
            "classifier_cfg": self.classifier.cfg,
            "views": self.classifier.view_count,
        }
