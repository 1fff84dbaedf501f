"""`clips.csv` and `patients.csv`: what a clip's frames, and a patient's clips, come to."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.core.files import write_atomically
from utils.core.script import LOGGER
from utils.core.title import DEFAULT_TITLE
from utils.data.dicom_header import Region
from utils.evaluation.clips import mean_view, patient_evidence
from utils.inference.outputs import Output
from utils.inference.predictor import Prediction, view_text
from utils.inference.sources import Frame

MOST_FRAMES = 20  # named in a cell


@dataclass(frozen=True)
class LargestBox:
    """Of a clip, by its area.

    Attributes:
        frame: its number in the video, or the image's name.
        width, height: pixels.
        area_mm2: None where the scale is not known.
    """

    label: str
    confidence: float
    frame: str
    width: float
    height: float
    area_mm2: float | None

    @property
    def area(self) -> float:
        return self.width * self.height


@dataclass
class ClipRecord:
    """What has been seen of a clip so far.

    Attributes:
        frames, scored: how many there are, and how many of them the model was asked about.
        views: (views,) of every scored frame.
        shown: class -> (confidence, frame) of its best box in every frame that has one.
    """

    patient: str | None
    frames: int = 0
    scored: int = 0
    views: list[np.ndarray] = field(default_factory=list)
    shown: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    largest: LargestBox | None = None

    def frames_of(self, name: str) -> str:
        """The frames that show a class, best first; many are cut off, and counted."""
        ranked = sorted(self.shown[name], key=lambda found: -found[0])
        names = [frame for _, frame in ranked[:MOST_FRAMES]]
        if len(ranked) > MOST_FRAMES:
            names.append(f"and {len(ranked) - MOST_FRAMES} more")
        return "; ".join(names)


class ClipTables(Output):
    """A row a clip and a row a patient.

    Args:
        evidence: clip -> (classes,), see `utils.inference.clips`.
        threshold: from which evidence of a class is a finding; None: the model has none.
        patients: clip -> its patient; of those that have a known one.
        scales: clip -> the regions of its picture; of those that have any.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        view_names: Sequence[str],
        evidence: Mapping[str, np.ndarray],
        threshold: float | None,
        patients: Mapping[str, str],
        scales: Mapping[str, Sequence[Region]],
        cls_title: str = DEFAULT_TITLE,
    ):
        super().__init__(folder, names, view_names, cls_title)
        self._evidence = evidence
        self._threshold = threshold
        self._patients = patients
        self._scales = scales
        self._clips: dict[str, ClipRecord] = {}
        self._least_probability = 0.0

    def add(self, frame: Frame, prediction: Prediction) -> None:
        if frame.clip is None:
            return
        if frame.clip not in self._clips:
            self._clips[frame.clip] = ClipRecord(self._patients.get(frame.clip))
        record = self._clips[frame.clip]
        self._least_probability = prediction.least_probability
        record.frames += 1
        record.scored += prediction.is_scored
        record.views.append(prediction.view_probabilities)
        place = frame.name.as_posix()
        if frame.number is not None:
            place = str(frame.number)
        self._note_boxes(record, place, prediction, self._scales.get(frame.clip, ()))

    def _note_boxes(
        self, record: ClipRecord, place: str, prediction: Prediction, regions: Sequence[Region]
    ) -> None:
        noted = set()
        boxes = zip(prediction.classes, prediction.scores, prediction.boxes_xyxy, strict=True)
        for number, score, box_xyxy in boxes:  # best first
            label = self.names[number]
            if label not in noted:
                record.shown[label].append((float(score), place))
                noted.add(label)
            sides = box_xyxy[2:] - box_xyxy[:2]
            box = LargestBox(label, float(score), place, *sides, area_mm2(box_xyxy, regions))
            if record.largest is None or box.area > record.largest.area:
                record.largest = box

    def close(self) -> None:
        if not self._clips:
            return
        rows = [self._clip_row(name, record) for name, record in self._clips.items()]
        write_table(self.place("clips.csv"), rows)
        patients = self._patient_rows()
        if patients:
            write_table(self.place("patients.csv"), patients)
        unknown = sum(record.patient is None for record in self._clips.values())
        if unknown:
            LOGGER.info(
                f"{unknown} of {len(self._clips)} clips are of no known patient, so patients.csv "
                "is without them: neither group_pattern, in the names of their files, nor a DICOM "
                "header tells"
            )
        if self.names and self._threshold is None:
            LOGGER.info(
                "findings are not named: the model's file keeps no threshold for clips, which a "
                "training keeps whose data.yaml has a clip_pattern"
            )

    def _clip_row(self, name: str, record: ClipRecord) -> dict[str, object]:
        row = {
            "clip": name,
            "patient": record.patient,
            "frames": record.frames,
            "frames_scored": record.scored,
        }
        row |= self._view_cells(mean_view(record.views))
        row |= self._evidence_cells(self._evidence.get(name))
        row |= {f"frames_{label}": record.frames_of(label) for label in self.names}
        if self.names:
            row |= _largest_cells(record.largest)
        return row

    def _patient_rows(self) -> list[dict[str, object]]:
        clips_of: dict[str, list[str]] = defaultdict(list)
        for name, record in self._clips.items():
            if record.patient is not None:
                clips_of[record.patient].append(name)
        rows = []
        for patient, clips in clips_of.items():
            records = [self._clips[clip] for clip in clips]
            known = {clip: self._evidence[clip] for clip in clips if clip in self._evidence}
            row = {
                "patient": patient,
                "clips": len(clips),
                "frames": sum(record.frames for record in records),
                "frames_scored": sum(record.scored for record in records),
            }
            evidence = None
            if known:
                evidence = patient_evidence(list(known.values()))
            row |= self._evidence_cells(evidence)
            for number, label in enumerate(self.names):
                row[f"best_clip_{label}"] = max(
                    known, key=lambda clip, number=number: known[clip][number], default=None
                )
            rows.append(row)
        return rows

    def _view_cells(self, probabilities: np.ndarray) -> dict[str, object]:
        if not self.view_names:
            return {}
        columns = [self.cls_title, *(f"p_{name}" for name in self.view_names)]
        cells = [None] * len(columns)
        if len(probabilities):
            view = view_text(probabilities, self._least_probability, self.view_names)
            cells = [view, *(f"{p:.6f}" for p in probabilities)]
        return dict(zip(columns, cells, strict=True))

    def _evidence_cells(self, evidence: np.ndarray | None) -> dict[str, object]:
        cells = [None] * len(self.names)
        if evidence is not None:
            cells = [f"{value:.6f}" for value in evidence]
        columns = [f"evidence_{name}" for name in self.names]
        evidence_cells = dict(zip(columns, cells, strict=True))
        if not self.names:
            return evidence_cells
        return {"findings": self._findings(evidence)} | evidence_cells

    def _findings(self, evidence: np.ndarray | None) -> str | None:
        """The classes whose evidence (classes,) reaches the threshold, the clearest first."""
        if evidence is None or self._threshold is None:
            return None
        found = [number for number in np.argsort(-evidence) if evidence[number] >= self._threshold]
        return "; ".join(self.names[number] for number in found) or "none"


def area_mm2(box_xyxy: np.ndarray, regions: Iterable[Region]) -> float | None:
    """By the scale of the region that the middle of the box (4,) lies in; None without one."""
    x, y = (box_xyxy[:2] + box_xyxy[2:]) / 2
    width, height = box_xyxy[2:] - box_xyxy[:2]
    for region in regions:
        is_inside = region.left <= x < region.right and region.top <= y < region.bottom
        if is_inside and region.spacing_x_mm and region.spacing_y_mm:
            return float(width * region.spacing_x_mm * height * region.spacing_y_mm)
    return None


def _largest_cells(box: LargestBox | None) -> dict[str, object]:
    columns = ("class", "confidence", "frame", "width_px", "height_px", "area_px2", "area_mm2")
    cells = [None] * len(columns)
    if box is not None:
        sizes = [f"{size:.2f}" for size in (box.width, box.height, box.area)]
        cells = [box.label, f"{box.confidence:.6f}", box.frame, *sizes, None]
        if box.area_mm2 is not None:
            cells[-1] = f"{box.area_mm2:.2f}"
    return {f"largest_{name}": cell for name, cell in zip(columns, cells, strict=True)}


def write_table(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows that all have the same columns as CSV."""
    rows = list(rows)

    def save(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, save)
