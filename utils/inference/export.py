"""Writes a model for other programs: ONNX, and PyTorch's exported program.

Both are made of one `torch.export` program, whose batch, height and width are free (height and
width multiples of 32):

    images (B, 3, H, W) float32 in [0, 1]
    ->  boxes (B, N, 5 + nc) float32: xywh in pixels, objectness, class scores
        views (B, V) float32: probabilities

A model of one task has its own output only. ONNX can have non-maximum suppression in the graph:
then `boxes` gives way to `detections` (B, 300, 6) float32: x1, y1, x2, y2 in pixels, confidence,
class; best first, then rows of zeros.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from utils.checkpoints.onnx_model import OUTPUTS, import_extra
from utils.core.device import fused_copy
from utils.core.files import write_atomically
from utils.core.names import STRIDE, TASKS
from utils.core.script import UserError

MAX_DETECTIONS = 300  # rows of `detections`


@dataclass(frozen=True)
class Suppression:
    """Thresholds of the suppression in the graph, see `utils.data.boxes.non_max_suppression`."""

    confidence: float
    iou: float


def answers(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """A model's outputs, by the names of the module's docstring, in their order."""
    outputs = model(images)
    found = {}
    if "detect" in outputs:
        found["boxes"] = model.decode(outputs["detect"])
    if "classify" in outputs:
        found["views"] = outputs["classify"].float().softmax(dim=1)
    return found


class Deployed(nn.Module):
    """A model as it is exported: tensors in and out, batch norms folded into convolutions.

    Args:
        model: stays as it is.
        half: weights and convolutions in float16; decoding and probabilities stay float32.

    Raises:
        UserError: `half`, and a weight is too large for float16.
    """

    def __init__(self, model: nn.Module, half: bool = False):
        super().__init__()
        self.model = fused_copy(model)
        self.is_half = half
        if half:
            self._halve()

    def _halve(self) -> None:
        """Halve the parameters; the anchors are none."""
        for name, parameter in self.model.named_parameters():
            parameter.data = parameter.data.half()
            if not parameter.isfinite().all():
                raise UserError(
                    f"--half: {name} has values beyond float16's 65504; leave out --half"
                )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.is_half:
            images = images.half()
        return tuple(answers(self.model, images).values())


def exported_program(deployed: Deployed) -> torch.export.ExportedProgram:
    """The model's graph, with free batch, height and width."""
    batch, rows, columns = (torch.export.Dim(name, min=2) for name in ("batch", "rows", "columns"))
    example = torch.zeros(2, 3, 2 * STRIDE, 3 * STRIDE)
    shape = {0: batch, 2: STRIDE * rows, 3: STRIDE * columns}
    program = torch.export.export(deployed, (example,), dynamic_shapes=(shape,), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    return program


def write_program(
    path: Path, program: torch.export.ExportedProgram, properties: Mapping[str, str]
) -> None:
    """Write a `.pt2` file; the properties become its extra file `metadata.json`."""
    extra = {"metadata.json": json.dumps(properties, ensure_ascii=False)}
    write_atomically(path, lambda temporary: _save_program(program, temporary, extra))


def _save_program(program: torch.export.ExportedProgram, path: Path, extra: dict[str, str]) -> None:
    stream = io.BytesIO()  # a path would have to end in .pt2, and a full disk would abort Python
    torch.export.save(program, stream, extra_files=extra)
    path.write_bytes(stream.getvalue())


def onnx_model(
    program: torch.export.ExportedProgram, tasks: Sequence[str], opset: int | None = None
) -> object:
    """The program as an `onnx.ModelProto`, in an opset of the exporter's choice if None.

    Raises:
        UserError: a package is missing, or the exporter cannot write that opset.
    """
    import_extra("onnx")
    import_extra("onnxscript")
    # They report every rewritten node, and with a traceback that an opset is not to be had.
    for chatty in ("onnxscript", "onnx_ir"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    names = [OUTPUTS[task] for task in TASKS if task in tasks]
    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["images"],
        output_names=names,
        opset_version=opset,
        verbose=False,
    )
    model = exported.model_proto
    if opset not in (None, opset_of(model)):  # it falls back silently
        raise UserError(
            f"--opset {opset}: the exporter here makes {opset_of(model)} of it; leave it out"
        )
    return model


def opset_of(model: object) -> int:
    """The version of ONNX's own operators in an `onnx.ModelProto`."""
    return next(imported.version for imported in model.opset_import if not imported.domain)


def write_onnx(path: Path, model: object, properties: Mapping[str, str]) -> None:
    """Check an `onnx.ModelProto` and write it to a file, with the properties as its metadata."""
    onnx = import_extra("onnx")
    strip_metadata(model.graph)
    onnx.helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(model.SerializeToString()))


def strip_metadata(message: object) -> None:
    """Remove the exporter's notes from a part of an `onnx.ModelProto`.

    They name files of this machine.
    """
    for field, value in message.ListFields():
        if field.name == "metadata_props":
            message.ClearField("metadata_props")
        elif field.message_type and field.is_repeated:
            for part in value:
                strip_metadata(part)
        elif field.message_type:
            strip_metadata(value)


def deviations(
    model: nn.Module, exported: Callable[[Tensor], Sequence[Tensor]], size: int
) -> dict[str, float]:
    """The largest differences between a model and what was exported of it, on an image of noise.

    Args:
        exported: images -> outputs in the order of `answers`.
        size: side of the square image, pixels.
    """
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = answers(model, images)
        found = exported(images)
    largest = {}
    for (name, own), other in zip(expected.items(), found, strict=True):
        difference = (own - other).abs()
        if name == "boxes":
            largest["boxes in pixels"] = float(difference[..., :4].max())
            largest["scores"] = float(difference[..., 4:].max())
        else:
            largest[name] = float(difference.max())
    return largest


# In ONNX's text syntax. As in `non_max_suppression`, a box counts for its best class only. Zeros
# are appended so that there are enough rows to choose from, whatever the image's size.
SUPPRESSION = """
<ir_version: {ir_version}, opset_import: ["" : {opset}]>
suppression (float[batch, candidates, columns] boxes) => (float[batch, {most}, 6] detections)
<
    int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}},
    int64[1] four = {{4}}, int64[1] five = {{5}},
    int64[1] end = {{9223372036854775807}},
    int64[1] most = {{{most}}},
    int64[2] image_and_box = {{0, 2}},
    int64[4] below_scores = {{0, 0, 0, {most}}},
    int64[6] below_rows = {{0, 0, 0, 0, {most}, 0}},
    float nothing = {{0.0}}, float half = {{0.5}},
    float[1] confidence = {{{confidence}}}, float[1] iou = {{{iou}}}
>
{{
    xy = Slice (boxes, zero, two, two)
    wh = Slice (boxes, two, four, two)
    objectness = Slice (boxes, four, five, two)
    class_scores = Slice (boxes, five, end, two)
    half_wh = Mul (wh, half)
    low = Sub (xy, half_wh)
    high = Add (xy, half_wh)
    corners = Concat <axis = 2> (low, high)

    scores = Mul (class_scores, objectness)
    best, label = TopK <axis = 2> (scores, one)
    no_scores = Mul (scores, nothing)
    best_only = ScatterElements <axis = 2> (no_scores, label, best)
    by_class = Transpose <perm = [0, 2, 1]> (best_only)
    chosen = NonMaxSuppression (corners, by_class, most, iou, confidence)

    places = Gather <axis = 1> (chosen, image_and_box)
    flat_best = Squeeze (best, two)
    chosen_scores = GatherND (flat_best, places)
    none_kept = Mul (flat_best, nothing)
    kept = ScatterND (none_kept, places, chosen_scores)
    enough_scores = Pad (kept, below_scores)
    ordered, order = TopK <axis = 1> (enough_scores, most)

    class_number = Cast <to = 1> (label)
    rows = Concat <axis = 2> (corners, best, class_number)
    enough_rows = Pad (rows, below_rows)
    order_index = Unsqueeze (order, two)
    ordered_rows = GatherND <batch_dims = 1> (enough_rows, order_index)
    is_kept = Greater (ordered, nothing)
    is_kept_row = Unsqueeze (is_kept, two)
    detections = Where (is_kept_row, ordered_rows, nothing)
}}
"""


def with_suppression(model: object, suppression: Suppression) -> object:
    """An `onnx.ModelProto` with the output `boxes` -> one with `detections` in its place."""
    onnx = import_extra("onnx")
    text = SUPPRESSION.format(
        ir_version=model.ir_version,
        opset=opset_of(model),
        most=MAX_DETECTIONS,
        confidence=f"{suppression.confidence:.9f}",
        iou=f"{suppression.iou:.9f}",
    )
    last = onnx.compose.add_prefix(
        onnx.parser.parse_model(text), "suppression/", rename_inputs=False, rename_outputs=False
    )
    merged = onnx.compose.merge_models(model, last, io_map=[("boxes", "boxes")])
    merged.graph.output.sort(key=lambda output: output.name)  # detections, views
    return merged
