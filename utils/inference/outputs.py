"""What is kept of predictions: pictures, videos, label files, cut-out boxes, a table, a summary.

Every output is told of each frame by `add` and makes its folders when it has something to write.
Files are called after `Frame.name`.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.core.files import file_names, naming, write_atomically, write_bytes, write_json
from utils.core.script import UserError
from utils.core.title import DEFAULT_TITLE, plural
from utils.core.user_file import is_utf8
from utils.data.labels import UNKNOWN_VIEW, label_text
from utils.evaluation.coco import CocoFrame, coco_document
from utils.inference.drawing import draw_prediction
from utils.inference.predictor import Prediction, view_text
from utils.inference.sources import Frame, frame_count

BOX_COLUMNS = ("class", "confidence", "x1", "y1", "x2", "y2")
UNWRITABLE = "backslashreplace"  # halves of characters, in names of files
JPEG_QUALITY = 95
# Frames a second: taken for a video that states none, or a higher one than can be true.
USUAL_RATE = 25
LOWEST_RATE = 0.1  # below, and above, OpenCV writes no video, or a rate is no rate
HIGHEST_RATE = 1000


class Output:
    """Something that is kept.

    Args:
        folder: of the run.
        names, view_names: of the box classes and the views; empty for a task that the model does
            not have.
        cls_title: what a user calls a view.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        view_names: Sequence[str],
        cls_title: str = DEFAULT_TITLE,
    ):
        self.folder = folder
        self.names = names
        self.view_names = view_names
        self.cls_title = cls_title

    def add(self, frame: Frame, prediction: Prediction) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """No frame is left."""

    def place(self, *parts: str) -> Path:
        """A path in the run's folder; the folder that it is in exists from now on."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Pictures(Output):
    """`NAME.jpg`, and `VIDEO.mp4` of a video's frames: see `draw_prediction`."""

    _video: cv2.VideoWriter | None = None
    _video_path: Path | None = None
    _video_frames = 0

    def add(self, frame: Frame, prediction: Prediction) -> None:
        drawn = draw_prediction(frame.image, prediction, self.names, self.view_names)
        picture = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
        if frame.number is None:
            content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
            write_bytes(self.place(f"{frame.name}.jpg"), content)
        else:
            self._write(frame, picture)

    def _write(self, frame: Frame, picture: np.ndarray) -> None:
        name = frame.clip.encode("utf-8", "backslashreplace").decode()  # OpenCV takes no other
        path = self.place(f"{name}.mp4")
        if path != self._video_path:
            self.close()
            rate = USUAL_RATE
            if LOWEST_RATE <= frame.rate <= HIGHEST_RATE:
                rate = frame.rate
            size = picture.shape[1::-1]
            if not is_utf8(path):  # OpenCV crashes
                raise UserError(
                    f"{path}: OpenCV writes no video of a name that is not UTF-8; "
                    "choose another --project, or leave out pictures and videos with --nosave"
                )
            self._video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            self._video_path = path
            self._video_frames = 0
            if not self._video.isOpened():
                raise UserError(
                    f"{path}: OpenCV cannot write this video; "
                    "leave out pictures and videos with --nosave"
                )
        self._video.write(picture)
        self._video_frames += 1

    def close(self) -> None:
        if self._video is None:
            return
        self._video.release()
        self._video = None
        found = frame_count(self._video_path)  # OpenCV does not tell what it could not write
        if found < self._video_frames:
            raise UserError(
                f"{self._video_path}: cannot be written: {found} of {self._video_frames} frames "
                "are in it; is the disk full?"
            )


class LabelFiles(Output):
    """`labels/NAME.txt` in the joint format of `utils.data.labels`.

    Empty where there is neither a box nor a view.
    """

    def add(self, frame: Frame, prediction: Prediction) -> None:
        text = label_text(prediction.labels(), len(self.view_names))
        write_bytes(self.place("labels", f"{frame.name}.txt"), text.encode())


class Crops(Output):
    """`crops/CLASS/NAME_1.png`, `NAME_2.png`, ...: the pixels that each box touches, best first.

    What a class's folder is called: see `file_names`.
    """

    def __init__(self, *about: object):
        super().__init__(*about)
        self._folders = file_names(self.names)

    def add(self, frame: Frame, prediction: Prediction) -> None:
        boxes = zip(prediction.boxes_xyxy, prediction.classes, strict=True)
        for index, (box, number) in enumerate(boxes, start=1):
            x1, y1 = np.floor(box[:2]).astype(int)
            x2, y2 = np.ceil(box[2:]).astype(int)
            cut_out = cv2.cvtColor(frame.image[y1:y2, x1:x2], cv2.COLOR_RGB2BGR)
            folder = self._folders[self.names[number]]
            path = self.place("crops", folder, f"{frame.name}_{index}.png")
            write_bytes(path, cv2.imencode(".png", cut_out)[1])


class ClipViews:
    """One view for a clip: the mean of its frames' view probabilities."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._frames: Counter[str] = Counter()

    def add(self, frame: Frame, prediction: Prediction) -> None:
        if frame.clip is None or not len(prediction.view_probabilities):
            return
        self._sums[frame.clip] = self._sums.get(frame.clip, 0) + prediction.view_probabilities
        self._frames[frame.clip] += 1

    def means(self) -> dict[str, np.ndarray]:
        """Clip -> (views,)."""
        return {clip: total / self._frames[clip] for clip, total in self._sums.items()}


class Table(Output):
    """`predictions.csv`: a row a box, in pixels; for a frame without any, one with empty cells.

    Every row has its frame's view, the probability of each view, and the same of the clip, if the
    frame is of one. The columns `view` and `clip_view` are called what the data set calls a view.
    Rows are written as they come, so that a run which is killed leaves them; what all frames of a
    clip say is filled in at the end.
    """

    _stream: io.TextIOBase | None = None

    def __init__(self, folder: Path, *about: object):
        super().__init__(folder, *about)
        self._clips = ClipViews()
        self._least_probability = 0.0
        self._path = folder / "predictions.csv"
        self._columns = (
            "image",
            "frame",
            *BOX_COLUMNS,
            *self._view_columns(""),
            "clip",
            *self._view_columns("clip_"),
        )

    def add(self, frame: Frame, prediction: Prediction) -> None:
        self._clips.add(frame, prediction)
        self._least_probability = prediction.least_probability
        with naming(self._path):
            if self._stream is None:
                self._stream = self._open(self.place(self._path.name))
                self._writer = csv.DictWriter(self._stream, self._columns)
                self._writer.writeheader()
            self._writer.writerows(self._rows(frame, prediction))
            self._stream.flush()

    def _rows(self, frame: Frame, prediction: Prediction) -> list[dict[str, object]]:
        known = {"image": frame.path, "frame": frame.number, "clip": frame.clip}
        known |= self._view_cells("", prediction.view_probabilities)
        if not len(prediction.classes):
            return [known]
        rows = []
        boxes = zip(prediction.classes, prediction.scores, prediction.boxes_xyxy, strict=True)
        for number, score, box in boxes:
            corners = [f"{x:.2f}" for x in box]
            cells = (self.names[number], f"{score:.6f}", *corners)
            rows.append(known | dict(zip(BOX_COLUMNS, cells, strict=True)))
        return rows

    def _view_columns(self, prefix: str) -> list[str]:
        return [f"{prefix}{self.cls_title}", *(f"{prefix}p_{name}" for name in self.view_names)]

    def _view_cells(self, prefix: str, probabilities: np.ndarray) -> dict[str, str]:
        if not len(probabilities):
            return {}
        view = view_text(probabilities, self._least_probability, self.view_names)
        cells = (view, *(f"{p:.6f}" for p in probabilities))
        return dict(zip(self._view_columns(prefix), cells, strict=True))

    def close(self) -> None:
        if self._stream is None:
            return
        with naming(self._path):
            self._stream.close()
        self._stream = None
        if self._clips.means():
            write_atomically(self._path, self._write_with_clips)

    def _write_with_clips(self, path: Path) -> None:
        """The rows so far, with what is known of their clips."""
        means = {
            as_written(clip): self._view_cells("clip_", mean)
            for clip, mean in self._clips.means().items()
        }
        with (
            self._path.open(newline="", encoding="utf-8") as rows,
            self._open(path) as stream,
        ):
            writer = csv.DictWriter(stream, self._columns)
            writer.writeheader()
            writer.writerows(row | means.get(row["clip"], {}) for row in csv.DictReader(rows))

    @staticmethod
    def _open(path: Path) -> io.TextIOBase:
        return path.open("w", newline="", encoding="utf-8", errors=UNWRITABLE)


def as_written(text: str) -> str:
    """What the table shows of a name that is not UTF-8."""
    return text.encode("utf-8", UNWRITABLE).decode()


class Coco(Output):
    """`coco.json`: all frames and boxes as a COCO data set, see `coco_document`."""

    def __init__(self, *about: object):
        super().__init__(*about)
        self._frames: list[CocoFrame] = []

    def add(self, frame: Frame, prediction: Prediction) -> None:
        view = None
        if prediction.view != UNKNOWN_VIEW:
            view = self.view_names[prediction.view]
        found = CocoFrame(
            file_name=str(frame.path),
            frame=frame.number,
            height=prediction.height,
            width=prediction.width,
            boxes_xyxy=prediction.boxes_xyxy,
            scores=prediction.scores,
            classes=prediction.classes,
            view=view,
        )
        self._frames.append(found)

    def close(self) -> None:
        if self._frames:
            write_json(self.place("coco.json"), coco_document(self._frames, self.names))


class Tally(Output):
    """Counts, for the summary."""

    def __init__(self, *about: object):
        super().__init__(*about)
        self.frames = 0
        self.with_boxes = 0
        self.not_scored = 0
        self._boxes: Counter[str] = Counter()
        self._views: Counter[str] = Counter()
        self._clips = ClipViews()
        self._least_probability = 0.0

    def add(self, frame: Frame, prediction: Prediction) -> None:
        self.frames += 1
        self.with_boxes += len(prediction.classes) > 0
        self.not_scored += not prediction.is_scored
        self._boxes.update(self.names[number] for number in prediction.classes)
        if len(prediction.view_probabilities):
            self._least_probability = prediction.least_probability
            self._views[self._text(prediction.view_probabilities)] += 1
        self._clips.add(frame, prediction)

    def clips(self) -> list[str]:
        """A line for every clip: its view."""
        return [
            f"clip {clip}: {self._text(probabilities)} {probabilities.max():.2f}"
            for clip, probabilities in self._clips.means().items()
        ]

    def _text(self, probabilities: np.ndarray) -> str:
        return view_text(probabilities, self._least_probability, self.view_names)

    def summary(self) -> str:
        """One line."""
        parts = [f"{self.frames} frames"]
        if self.not_scored:
            parts.append(f"{self.not_scored} of them without flow colour are not scored")
        if self.names:
            found = ", ".join(f"{name} {self._boxes[name]}" for name in self.names)
            boxes = sum(self._boxes.values())
            parts.append(f"{boxes} boxes in {self.with_boxes} of them ({found})")
        if self.view_names:
            names = [*self.view_names]
            if self._least_probability > 0:
                names.append("unknown")
            found = ", ".join(f"{name} {self._views[name]}" for name in names)
            parts.append(f"{plural(self.cls_title)} {found}")
        return "; ".join(parts)
