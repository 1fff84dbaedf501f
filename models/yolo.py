"""YOLOv5 from its YAML: alone (`DetectionModel`), or with a view head (`YOLOv5WithClassification`).

The second has a trunk that both heads read, and the cut through which they read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from models.branches import with_view_branch
from models.common import Detect, ViewHead, decode
from models.graph import Features, LayerGraph, class_count, sized, source_of
from utils.core.names import TASKS
from utils.core.script import UserError


class DetectionModel(LayerGraph):
    """YOLOv5: images (B, 3, H, W) in [0, 1], H and W multiples of 32 -> {"detect": raw maps}.

    Args:
        cfg: a model YAML's path or content.
        nc: number of box classes; the YAML's `nc` if None.
        size: see `sized`.
        fewest_classes: 0 where the detection layer is taken away again.
    """

    kind = "detection"
    tasks = ("detection",)
    detection_path = ""  # of the detector in the state dict

    def __init__(
        self,
        cfg: str | Path | Mapping,
        nc: int | None = None,
        size: str = "",
        fewest_classes: int = 1,
        **counts: int,
    ):
        source = source_of(cfg)
        cfg = with_view_branch(sized(cfg, size), source)
        if nc is None:
            nc = cfg["nc"]
        self.cfg = {**cfg, "nc": class_count(nc, source, fewest_classes)}
        super().__init__(self.cfg, {"nc": self.cfg["nc"], **counts}, source)
        self.detect_index = self.index_of(Detect)

    @property
    def detect(self) -> Detect:
        """The detection layer."""
        return self.model[self.detect_index]

    def forward(self, images: Tensor) -> dict[str, object]:
        layers = [*sorted(self.ancestors(self.detect_index)), self.detect_index]
        return {"detect": self.run(layers, {-1: images})[self.detect_index]}

    def decode(self, raw_maps: list[Tensor]) -> Tensor:
        """Raw maps -> (B, N, 5 + nc), see `decode`."""
        return decode(raw_maps, self.detect.anchors, self.detect.strides)

    def arguments(self) -> dict[str, object]:
        """What `type(self)(**arguments)` needs to build this architecture again; plain values.

        The anchors are among them.
        """
        cfg = dict(self.cfg)
        if self.detect is not None:
            cfg["anchors"] = self.detect.anchors_px().flatten(1).tolist()
        return {"cfg": cfg, "nc": self.cfg["nc"]}


class YOLOv5WithClassification(DetectionModel):
    """YOLOv5 with a view head on one of its layers.

    The head's row may end with {stop_gradient: True}, see `models.common.ViewHead`.

    Args:
        cfg: a model YAML's path or content with a `ViewHead` row; its `from` is where the head
            attaches.
        nc: number of box classes; 0 for `tasks` without detection.
        views: number of views; 0 for `tasks` without classification.
        size: see `sized`.
        tasks: of one alone, the other's head is removed: the single-task reference.

    Attributes:
        view_index: the layer that is the view head.
        stops_gradient: whether the view has no part in the trunk's training.
        trunk_layers: the layers that both heads depend on.
        cut: the trunk layers whose outputs a layer outside the trunk reads.
    """

    kind = "joint"

    def __init__(
        self,
        cfg: str | Path | Mapping,
        nc: int | None = None,
        views: int = 3,
        size: str = "",
        tasks: Sequence[str] = TASKS,
    ):
        # Without views or classes, the head for them is taken away again below.
        super().__init__(
            cfg, nc, size, fewest_classes=int("detection" in tasks), views=max(views, 1)
        )
        self.view_count = views
        self.tasks = tuple(tasks)
        self.view_index = self.index_of(ViewHead)
        self.stops_gradient = self.model[self.view_index].stop_gradient
        self._refuse_untrained_layers()
        self._find_trunk_and_cut()
        # Removed only now, so that a seed gives the layers that stay the weights they have beside
        # both heads.
        if "detection" not in self.tasks:
            self._remove(self.detection_layers)
        if "classification" not in self.tasks:
            self._remove(self.view_layers)

    def _find_trunk_and_cut(self) -> None:
        detection_needs = self.ancestors(self.detect_index)
        view_needs = self.ancestors(self.view_index)
        shared = detection_needs & view_needs
        self.trunk_layers = tuple(sorted(shared))
        self.detection_layers = (*sorted(detection_needs - shared), self.detect_index)
        self.view_layers = (*sorted(view_needs - shared), self.view_index)
        read_outside: set[int] = set()
        for index in (*self.detection_layers, *self.view_layers):
            read_outside |= set(self.sources[index])
        self.cut = tuple(sorted(read_outside & shared))

    def _remove(self, layers: Sequence[int]) -> None:
        for index in layers:
            self.model[index] = nn.Identity()

    def _refuse_untrained_layers(self) -> None:
        """Raise a `UserError` if nothing would train some layer before the view head."""
        if not self.stops_gradient:
            return
        untrained = self.ancestors(self.view_index) - self.ancestors(self.detect_index)
        if untrained:
            raise UserError(
                f"{self.source}: model layer {self.view_index} is behind a stop-gradient, so "
                f"nothing would train layers {sorted(untrained)} before it; expected it to read "
                "layers that the detector needs"
            )

    @property
    def detect(self) -> Detect | None:
        if "detection" not in self.tasks:
            return None
        return super().detect

    def trunk(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> the outputs at the cut, by layer number."""
        outputs = self.run(self.trunk_layers, {-1: images})
        return {index: outputs[index] for index in self.cut}

    def heads(self, features: Features, view_features: Features | None = None) -> dict[str, object]:
        """The cut's outputs -> {"detect": raw maps, "classify": (B, views) logits}.

        The output of a task that the model lacks is left out.

        Args:
            view_features: if given, the view head reads these in place of `features`: aliases that
                tell the two tasks' gradients apart.
        """
        if view_features is None:
            view_features = features
        outputs = {}
        if "detection" in self.tasks:
            outputs["detect"] = self.run(self.detection_layers, features)[self.detect_index]
        if "classification" in self.tasks:
            outputs["classify"] = self.run(self.view_layers, view_features)[self.view_index]
        return outputs

    def forward(
        self, images: Tensor, tap: Callable[[Features], tuple[Features, Features]] | None = None
    ) -> dict[str, object]:
        """Trunk and heads; `tap` maps the cut's outputs to the pair that the two heads read."""
        features = self.trunk(images)
        if tap is None:
            return self.heads(features)
        return self.heads(*tap(features))

    def last_shared_parameter(self) -> Tensor:
        """The weight of the trunk's last convolution: W in the GradNorm paper."""
        layers = [self.model[index] for index in reversed(self.trunk_layers)]
        return next(layer.output_weight for layer in layers if hasattr(layer, "output_weight"))

    def trunk_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The trained parameters of the "trunk" and of each of its layers, "0" to the last.

        A layer without any is left out; if all are frozen, so is "trunk".
        """
        layers = {}
        everything = []
        for index in self.trunk_layers:
            trained = [p for p in self.model[index].parameters() if p.requires_grad]
            if trained:
                layers[str(index)] = trained
                everything += trained
        if not everything:
            return {}
        return {"trunk": everything, **layers}

    def clipped_parts(self) -> tuple[list[nn.Parameter], ...]:
        """Trunk and detection head are a part, the view head is another.

        So a large view gradient cannot scale the detector's step.
        """
        view_head = nn.ModuleList(self.model[index] for index in self.view_layers)
        of_view = list(view_head.parameters())
        known = set(map(id, of_view))
        detector = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return detector, of_view

    def arguments(self) -> dict[str, object]:
        return {**super().arguments(), "views": self.view_count, "tasks": list(self.tasks)}
