"""For torch.hub: a trained model from a checkpoint or an ONNX file, for one image at a time.

    model = torch.hub.load("path/to/this/folder", "joint", weights="last.pt", source="local")
    boxes, view = model.predict("frame.jpg")

Nothing is downloaded. The packages `models` and `utils` are this project's, so a program that has
imported others of these names cannot load it.
"""

from __future__ import annotations

from pathlib import Path

from utils.checkpoints.model_file import model_from_checkpoint, open_model
from utils.core.device import select_compute, select_device
from utils.inference.hub import HubModel
from utils.inference.predictor import Predictor

dependencies = ["torch", "torchvision", "numpy", "cv2", "PIL", "yaml", "tqdm"]


def joint(
    weights: str | Path,
    device: str = "auto",
    imgsz: int | None = None,
    conf_thres: float | None = None,
    iou_thres: float = 0.45,
    max_det: int = 300,
) -> HubModel:
    """The model in `weights`, of one or both tasks; its `predict(image)` gives boxes and view.

    Args:
        weights: last.pt of a run, or last.onnx made of it by export.py.
        device: auto, cpu, or a CUDA device's number.
        imgsz: side of the square that images are fitted into, pixels; as trained if None.
        conf_thres: lowest confidence of a box; the file's if None.
        iou_thres: of non-maximum suppression.
        max_det: boxes an image, at most.

    Raises:
        UserError: no such file or device, or not a model of this project.
    """
    compute = select_compute("auto", select_device(device))
    model, metadata = open_model(weights, model_from_checkpoint, compute)
    return HubModel.of(
        Predictor.of(model, metadata, compute, imgsz, conf_thres, iou_thres, max_det), metadata
    )
