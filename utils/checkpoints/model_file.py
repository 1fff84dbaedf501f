"""A model's file, checkpoint or ONNX: its metadata, and the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from models.dual_backbone import DualBackbone
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.checkpoints.checkpoint import (
    FORMAT,
    READABLE,
    VERSION,
    averaged_weights,
    load_checkpoint,
)
from utils.checkpoints.foreign import ONNX, foreign_kind
from utils.checkpoints.onnx_model import OnnxModel
from utils.checkpoints.public_yolov5 import is_public_yolov5, public_checkpoint
from utils.checkpoints.schema import (
    FILE_NAMES,
    METADATA,
    OPTIONS,
    THRESHOLDS,
    check,
    check_prior,
)
from utils.core.data_config import DataConfig
from utils.core.device import Compute, fused_copy
from utils.core.script import UserError
from utils.core.title import DEFAULT_TITLE
from utils.core.user_file import is_utf8, read_regular
from utils.core.values import from_mapping, to_mapping

# Entries that older exports lack
LATER = (
    "bits",
    "group_pattern",
    "clip_pattern",
    "needs_colour",
    "cls_title",
    "clip_evidence",
    "view_probability",
)
MODELS = {model.kind: model for model in (DetectionModel, YOLOv5WithClassification, DualBackbone)}


def model_from_checkpoint(
    content: Mapping[str, object], weights: Mapping[str, Tensor], source: str | Path
) -> nn.Module:
    """The architecture a checkpoint describes, with the given ones of its weights.

    Raises:
        UserError: a kind of model that is unknown here, or weights that do not fit it.
    """
    if content["kind"] not in MODELS:
        raise UserError(
            f"{source}: model of kind '{content['kind']}', expected {', '.join(MODELS)}"
        )
    model = build_from(MODELS[content["kind"]], content["arguments"], source)
    take_weights(model, weights, source)
    return model


def build_from(
    kind: Callable[..., nn.Module], arguments: Mapping[str, object], source: str | Path
) -> nn.Module:
    """A new model from the arguments in a checkpoint.

    Raises:
        UserError: they do not describe one.
    """
    try:
        return kind(**arguments)
    except UserError as error:
        raise UserError(f"{source}: arguments: {error}") from None


def take_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Give a model all its weights.

    Raises:
        UserError: some are missing, of another shape, or of no layer of this model.
    """
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own.keys() - weights.keys()]
    problems += [f"{name} belongs to no layer" for name in weights.keys() - own.keys()]
    for name in own.keys() & weights.keys():
        if own[name].shape != weights[name].shape:
            problems.append(f"{name} is {_form(weights[name])}, expected {_form(own[name])}")
        elif own[name].is_floating_point() != weights[name].is_floating_point():
            problems.append(f"{name} holds {weights[name].dtype}, expected {own[name].dtype}")
    if problems:
        found = min(problems)
        if len(problems) > 1:
            found += f", and {len(problems) - 1} more"
        raise UserError(
            f"{source}: the weights do not fit the model: {found}; "
            "the file is damaged, was changed, or is of another program"
        )
    model.load_state_dict(weights)


def _form(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


@dataclass(frozen=True)
class ModelMetadata:
    """What a model's file holds besides the weights.

    Attributes:
        kind: of model, see `MODELS`.
        names, view_names: of the box classes and the views, by number.
        imgsz: side of the square it was made for, pixels.
        rect: whether it was trained on squares less the border that no frame needs.
        data: the data.yaml it was trained on; "" if the file does not name it.
        confidence: threshold chosen on the validation split; None if it was never validated, or
            found no box there.
        view_prior: the fields of `utils.evaluation.results.ViewPrior`, or None.
        fingerprint: of the training and validation frames.
        bits: stored in images of 16 bits a channel, see `utils.core.pixels`; None if it was trained
            on none.
        group_pattern, clip_pattern, needs_colour, cls_title: of the data it was trained on, see
            `DataConfig`.
        clip_evidence, view_probability: chosen on the validation split, see
            `utils.evaluation.thresholds.Thresholds`.
    """

    kind: str
    names: list[str]
    view_names: list[str]
    imgsz: int
    rect: bool
    data: str
    confidence: float | None
    view_prior: dict | None
    fingerprint: str
    # Older files have no such entries
    bits: int | None = None
    group_pattern: str | None = None
    clip_pattern: str | None = None
    needs_colour: bool = False
    cls_title: str = DEFAULT_TITLE
    clip_evidence: float | None = None
    view_probability: float | None = None

    @classmethod
    def of_checkpoint(cls, content: Mapping[str, object]) -> ModelMetadata:
        """From what `load_checkpoint` returns."""
        options = content["options"]
        data = content.get("data", {})
        thresholds = content.get("thresholds", {})
        return cls(
            kind=content["kind"],
            names=content["names"],
            view_names=content["view_names"],
            imgsz=options["imgsz"],
            rect=options.get("rect", False),  # older trainings had no such option
            data=options["data"],
            confidence=content["confidence"],
            view_prior=content["view_prior"],
            fingerprint=content["fingerprint"],
            bits=content.get("bits"),
            group_pattern=data.get("group_pattern"),
            clip_pattern=data.get("clip_pattern"),
            needs_colour=data.get("needs_colour", False),
            cls_title=data.get("cls_title", DEFAULT_TITLE),
            clip_evidence=thresholds.get("clip_evidence"),
            view_probability=thresholds.get("view_probability"),
        )

    def file_names(self, source: str | Path) -> DataConfig:
        """What the training's data says of file names: which frames are a clip, and whose.

        Args:
            source: the model's file, for messages.
        """
        return DataConfig(
            source=Path(source),
            root=Path(),
            splits={},
            names=tuple(self.names),
            view_names=tuple(self.view_names),
            group_pattern=self.group_pattern,
            clip_pattern=self.clip_pattern,
            cls_title=self.cls_title,
        )

    def to_properties(self) -> dict[str, str]:
        """The same as JSON values, with the project's stamp: metadata of an exported file."""
        content = {"format": FORMAT, "version": VERSION, **to_mapping(self)}
        properties = {}
        for key, value in content.items():
            properties[key] = json.dumps(value, ensure_ascii=False)
            if not is_utf8(properties[key]):  # a path in another encoding
                properties[key] = json.dumps(value)
        return properties

    @classmethod
    def of_properties(cls, properties: Mapping[str, str], source: str | Path) -> ModelMetadata:
        """Back from `to_properties`; other keys are passed by.

        Raises:
            UserError: not an export of this project, of another version, or metadata missing or of
                wrong types.
        """
        try:
            content = cls._content_of(properties)
            metadata = from_mapping(cls, content)
            check(content, METADATA | OPTIONS, "metadata")
            check(content, FILE_NAMES | THRESHOLDS, "metadata")
            check_prior(content, "metadata")
        # Made-up metadata can raise any of these; UserError is a ValueError.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{source}: not an export of this project ({error}); make one with export.py"
            ) from None
        # Older files have 0 where no threshold was found.
        return replace(metadata, confidence=metadata.confidence or None)

    @classmethod
    def _content_of(cls, properties: Mapping[str, str]) -> dict[str, object]:
        """The fields' values in metadata of this project, of a version that is known here."""
        fields = cls.__dataclass_fields__
        known = {"format", "version", *fields}
        content = {key: json.loads(text) for key, text in properties.items() if key in known}
        if content.pop("format", None) != FORMAT:
            raise UserError("it has no metadata of this project")
        version = content.pop("version", None)
        if type(version) is not int or version not in READABLE:
            raise UserError(f"version {version}, expected {' or '.join(map(str, READABLE))}")
        missing = [key for key in fields if key not in content and key not in LATER]
        if missing:
            raise UserError(f"metadata {missing} are missing")
        prior = content["view_prior"]
        if prior:  # JSON's keys are strings
            prior["by_class"] = {int(number): view for number, view in prior["by_class"].items()}
        return content


def is_onnx(path: str | Path) -> bool:
    """Whether a file is named as an ONNX model."""
    return Path(path).suffix.lower() == ".onnx"


def _read_onnx(path: Path) -> bytes:
    """The content of an ONNX model's file.

    Raises:
        UserError: no such file, or one that is recognised as another kind.
    """
    expected = "expected an ONNX model, as export.py writes"
    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {expected}") from None
    kind, _ = foreign_kind(path)
    if kind not in ("", ONNX):
        raise UserError(f"{path}: refused: it is {kind}; {expected}")
    return content


def load_any(path: str | Path) -> dict[str, object]:
    """A checkpoint of this project, or of the public YOLOv5.

    Raises:
        UserError: see `load_checkpoint` and `public_checkpoint`.
    """
    if is_public_yolov5(path):
        return public_checkpoint(path)
    return load_checkpoint(path)


def open_model(
    path: str | Path, build: Callable[..., nn.Module], compute: Compute
) -> tuple[nn.Module, ModelMetadata]:
    """The model in a checkpoint or an exported `.onnx` file, in eval mode, and its metadata.

    Of a checkpoint, the moving average. Public YOLOv5 detectors are read as well, see
    `public_checkpoint`.

    Args:
        build: `model_from_checkpoint`.
        compute: where and how a checkpoint's model computes; an ONNX model does as it was
            exported, on the CPU.

    Raises:
        UserError: no such file, or not a model of this project.
    """
    if is_onnx(path):
        model = OnnxModel(_read_onnx(Path(path)), path)
        metadata = ModelMetadata.of_properties(model.properties, path)
        if "detections" in model.outputs:
            raise UserError(
                f"{path}: exported with --nms, but all boxes are needed here; export it without"
            )
        return model.eval(), metadata
    content = load_any(path)
    model = fused_copy(compute.place(build(content, averaged_weights(content), path)))
    return model, ModelMetadata.of_checkpoint(content)
