"""Made-up cine clips with names burnt in, as frames, DICOM files and videos."""

from pathlib import Path

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

HEIGHT, WIDTH = 240, 320
REGION = (60, 40, 259, 219)  # left, top, right, bottom, as DICOM has it: inclusive
BANNER_ROWS = 24  # with the name
BURNT_IN = "DOE JANE 19620403"
FLOW = (30, 60, 230)


def sector_mask() -> np.ndarray:
    """(height, width) bool: a fan below the banner."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(mask, (160, 45), (160, 160), 90, -38, 38, 1, -1)
    return mask.astype(bool)


def cine_frames(
    count: int = 6, flow_from: int | None = None, inside: str = "", seed: int = 0
) -> np.ndarray:
    """(count, height, width, 3) uint8 RGB: speckle in a fan, letters and a scale around it.

    Args:
        flow_from: index of the first frame with a jet; None: no frame has one.
        inside: letters within the sector.
    """
    generator = np.random.default_rng(seed)
    frames = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    for index, frame in enumerate(frames):
        speckle = generator.integers(20, 220, (HEIGHT, WIDTH, 1), dtype=np.uint8)
        frame[:] = speckle * sector_mask()[..., None]
        if flow_from is not None and index >= flow_from:
            cv2.circle(frame, (160, 130), 14, FLOW, -1)
        font = (cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255))
        cv2.putText(frame, BURNT_IN, (4, 14), *font)
        cv2.putText(frame, inside, (120, 170), *font)
        cv2.putText(frame, "MI 0.9", (270, 60), *font)
        cv2.line(frame, (300, 80), (300, 220), (255, 255, 255), 1)
    return frames


def ultrasound(frames: np.ndarray, **elements: object) -> Dataset:
    """A multi-frame object, not compressed; `elements` are added to its header."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    header.SOPClassUID = UltrasoundMultiFrameImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    header.Modality = "US"
    header.NumberOfFrames, header.Rows, header.Columns, header.SamplesPerPixel = frames.shape
    header.PhotometricInterpretation = "RGB"
    header.PlanarConfiguration = header.PixelRepresentation = 0
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit = 7
    for name, value in elements.items():
        setattr(header, name, value)
    header.PixelData = frames.tobytes()
    return header


def tissue_region(left: int, top: int, right: int, bottom: int) -> Dataset:
    """An item of SequenceOfUltrasoundRegions with 0.5 mm a pixel."""
    item = Dataset()
    corners = {"MinX0": left, "MinY0": top, "MaxX1": right, "MaxY1": bottom}
    for name, value in corners.items():
        setattr(item, f"RegionLocation{name}", value)
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = 0.05
    return item


def regions(*corners: tuple[int, int, int, int]) -> Sequence:
    return Sequence([tissue_region(*own) for own in corners])


def write_clip(path: Path, frames: np.ndarray, **elements: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ultrasound(frames, **elements).save_as(path, enforce_file_format=True)
    return path


def write_video(path: Path, frames: np.ndarray, rate: float = 25) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (WIDTH, HEIGHT))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path
