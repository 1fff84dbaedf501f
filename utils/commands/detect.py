"""What detect.py does: predictions of frames, drawn, written or explained."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from torch import nn
from tqdm import tqdm

from models.common import ViewHead
from utils.checkpoints.model_file import ModelMetadata, is_onnx, model_from_checkpoint, open_model
from utils.core.data_config import DataConfig, load_data_config
from utils.core.device import keep_freed_memory, select_compute, select_device
from utils.core.lock import claim_run_folder
from utils.core.options import warn_without_effect
from utils.core.script import LOGGER, UserError
from utils.core.threads import Behind, ahead
from utils.curation.identity import patient_in
from utils.data.dicom import open_dicom
from utils.data.dicom_header import Region
from utils.inference import outputs
from utils.inference.clip_tables import ClipTables
from utils.inference.clips import PooledFrames, pooled_frames
from utils.inference.kinds import Kind
from utils.inference.predictor import Prediction, Predictor, threads_for_parts
from utils.inference.reader import FrameReader, in_batches
from utils.inference.sources import Frame, Source, find_sources, refuse_folder_of_sources


def run(args: argparse.Namespace) -> None:
    with claim_run_folder(args.project, args.name, args.exist_ok) as claimed:
        detect(args, claimed.folder)


def detect(args: argparse.Namespace, folder: Path) -> None:
    """Write the model's predictions of the sources into the folder."""
    data = load_data_config(args.data) if args.data else None
    sources = find_sources(args.source, data)
    refuse_folder_of_sources(folder, args.source, sources)
    compute = select_compute("auto", select_device(args.device))
    keep_freed_memory()
    model, metadata = open_model(args.weights, model_from_checkpoint, compute)
    file_names = data or metadata.file_names(args.weights)
    if pools_clips(args, file_names, sources):
        sources = in_clips(sources, file_names)
    else:
        file_names = None
    explained = view_head(model, args.weights) if args.explain else None
    limits = (args.imgsz, args.conf_thres, args.iou_thres, args.max_det)
    predictor = Predictor.of(model, metadata, compute, *limits, explained)
    least_probability = args.view_thres
    if least_probability is None:
        least_probability = metadata.view_probability or 0.0
    warn_without_effect(args.given, without_effect(model, args.weights))
    with threads_for_parts(compute.device) as pool:
        if explained:
            pool = None
        predictor = dataclasses.replace(predictor, least_probability=least_probability, pool=pool)
        write_outputs(args, sources, predictor, metadata, file_names, folder)


def pools_clips(
    args: argparse.Namespace, file_names: DataConfig, sources: Sequence[Source]
) -> bool:
    """Whether boxes are rescored by their clip.

    If nothing is asked for: of DICOM, and where the model was trained on clips.
    """
    if args.clip_evidence is not None:
        return args.clip_evidence
    if args.explain:
        return False
    return bool(file_names.clip_pattern) or any(is_dicom(source) for source in sources)


def is_dicom(source: Source) -> bool:
    return source.content.kind is Kind.DICOM


def in_clips(sources: Sequence[Source], file_names: DataConfig) -> list[Source]:
    """The sources, images in the clips that their names say; none in a clip called as a video."""
    taken = {source.clip for source in sources}
    found = []
    for source in sources:
        clip = file_names.clip_of(source.path)
        if source.clip is None and clip and clip[0] not in taken:
            source = dataclasses.replace(source, clip=clip[0])
        found.append(source)
    return found


def patients_of(sources: Sequence[Source], file_names: DataConfig) -> dict[str, str]:
    """Clip -> its patient, of those that have a known one.

    It is what `group_pattern` finds in the file's name; else, of DICOM, "patient 1", "patient 2",
    ..., in the order of the sources: who that is stays in the header.
    """
    found: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for source in sources:
        if source.clip is None or source.clip in found:
            continue
        patient = file_names.found_group(source.path)
        if patient is None and is_dicom(source):
            stated = patient_in(source.path)
            if stated:
                patient = f"patient {numbers.setdefault(stated, len(numbers) + 1)}"
        if patient is not None:
            found[source.clip] = patient
    return found


def scales_of(sources: Sequence[Source]) -> dict[str, tuple[Region, ...]]:
    """Clip -> its regions, of DICOM that has any."""
    scales = {}
    for source in sources:
        if source.clip is None or not is_dicom(source):
            continue
        with suppress(UserError):  # who reads its frames says what is wrong
            scales[source.clip] = open_dicom(source.path).regions
    return scales


def write_outputs(
    args: argparse.Namespace,
    sources: Sequence[Source],
    predictor: Predictor,
    metadata: ModelMetadata,
    file_names: DataConfig | None,
    folder: Path,
) -> None:
    """Write the model's predictions of all frames into the folder.

    Args:
        file_names: say whose clips there are; None where every frame stands by itself.
    """
    tasks = predictor.model.tasks
    names = metadata.names if "detection" in tasks else []
    view_names = metadata.view_names if "classification" in tasks else []
    title = metadata.cls_title
    tally = outputs.Tally(folder, names, view_names, title)
    files = [output(folder, names, view_names, title) for output in wanted(args)]
    pooled = None
    if file_names and any(source.clip for source in sources):
        looked_at = FrameReader(sources, metadata.bits)
        with batches_of(looked_at, args.batch_size, "detect: look") as batches:
            last_files = {source.clip: source.path for source in sources}
            pooled = pooled_frames(batches, predictor, len(names), last_files)
        if args.save_csv:
            evidence = (pooled.evidence, metadata.clip_evidence)
            known = (patients_of(sources, file_names), scales_of(sources))
            files.append(ClipTables(folder, names, view_names, *evidence, *known, title))
    reader = FrameReader(sources, metadata.bits)
    with batches_of(reader, args.batch_size, "detect") as batches:
        write_frames(batches, predictor, pooled, [tally, *files])
    for text in [*reader.notes(), *reader.problems]:
        LOGGER.warning(f"warning: {text}")
    parts = [tally.summary()]
    if reader.problems:
        parts.append(f"{len(reader.problems)} of {len(sources)} files not read to their end")
    if files:
        parts.append(f"everything is in {folder}")
    LOGGER.info("\n".join([*tally.clips(), "; ".join(parts)]))


@contextmanager
def batches_of(reader: FrameReader, batch_size: int, title: str) -> Iterator[Iterator[list[Frame]]]:
    """Batches of a reader's frames, decoded while the one before is worked on; with a bar."""
    with ExitStack() as stack:
        bar = tqdm(total=len(reader), desc=title, unit="frame", leave=False)
        stack.enter_context(bar)
        batches = stack.enter_context(closing(ahead(in_batches(reader, batch_size))))
        yield counted(batches, bar)


def counted(batches: Iterable[list[Frame]], bar: tqdm) -> Iterator[list[Frame]]:
    """The batches; the bar moves on when one was worked on."""
    for batch in batches:
        yield batch
        bar.update(len(batch))


def write_frames(
    batches: Iterable[list[Frame]],
    predictor: Predictor,
    pooled: PooledFrames | None,
    files: Sequence[outputs.Output],
) -> None:
    """Tell all outputs of every frame, predicted here unless that was done clip by clip.

    They draw and write one batch while the next is predicted.
    """
    with ExitStack() as stack:
        for output in files:
            stack.enter_context(closing(output))
        behind = stack.enter_context(Behind())
        first = 0
        for batch in batches:
            if pooled is None:
                predictions = predictor.predict([frame.image for frame in batch])
            else:
                predictions = pooled.predictions[first : first + len(batch)]
            first += len(batch)
            behind(tell, files, batch, predictions)


def tell(
    files: Sequence[outputs.Output], batch: Sequence[Frame], predictions: Sequence[Prediction]
) -> None:
    for frame, prediction in zip(batch, predictions, strict=True):
        for output in files:
            output.add(frame, prediction)


def without_effect(model: nn.Module, weights: str) -> dict[str, str]:
    """Options that change nothing for this model -> because of what."""
    idle = {}
    if "detection" not in model.tasks:
        no_boxes = f"{weights}, which finds no boxes"
        idle |= dict.fromkeys(("conf_thres", "iou_thres", "max_det", "save_crop"), no_boxes)
    if "classification" not in model.tasks:
        idle["view_thres"] = f"{weights}, which names no views"
    if is_onnx(weights):
        idle["device"] = f"{weights}: ONNX runs on the CPU"
    return idle


def view_head(model: nn.Module, weights: str) -> ViewHead:
    """The layer whose decision is to be explained.

    Raises:
        UserError: there is none that can be explained.
    """
    if is_onnx(weights):
        raise UserError(
            f"--explain: {weights} is ONNX, which shows no gradients; "
            "give the checkpoint it was made of"
        )
    heads = [layer for layer in model.modules() if isinstance(layer, ViewHead)]
    if not heads:
        raise UserError(
            f"--explain: {weights} has no view head, so there is no view to explain; leave it out"
        )
    if heads[0].map_count > 1:
        raise UserError(
            f"--explain: the view head of {weights} reads {heads[0].map_count} maps; "
            "expected one to explain"
        )
    return heads[0]


def wanted(args: argparse.Namespace) -> list[type[outputs.Output]]:
    """The outputs that were asked for."""
    asked = {
        outputs.Pictures: not args.nosave,
        outputs.LabelFiles: args.save_txt,
        outputs.Crops: args.save_crop,
        outputs.Table: args.save_csv,
        outputs.Coco: args.save_coco,
    }
    return [output for output, is_wanted in asked.items() if is_wanted]
