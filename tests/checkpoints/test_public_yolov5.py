"""Checkpoints of the public YOLOv5: what they hold comes out, what they could do does not happen."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import new_job

import train_joint_dual_backbone
from models.dual_backbone import DualBackbone
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.checkpoints.checkpoint import transfer_weights
from utils.checkpoints.public_yolov5 import is_official, read_official
from utils.core.script import UserError


@pytest.fixture
def official(shared_dir) -> Path:
    return shared_dir / "reference" / "yolov5s_official_format.pt"


def write_archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return path


def test_its_outputs_are_the_public_trainers(official, golden):
    model = DetectionModel("models/yolov5s.yaml", 4).eval()
    model.load_state_dict(read_official(official))
    with torch.inference_mode():
        decoded = model.decode(model(torch.from_numpy(golden["image"]))["detect"])
    np.testing.assert_allclose(decoded.numpy(), golden["official_decoded"], rtol=1e-4, atol=0.02)


@pytest.mark.parametrize(("nc", "left"), [(4, 0), (7, 6)])
def test_it_starts_the_joint_and_the_dual_model(official, nc, left):
    state = read_official(official)
    joint = YOLOv5WithClassification("models/yolov5s_joint.yaml", nc)
    dual = DualBackbone("models/yolov5s.yaml", "models/view_classifier.yaml", nc)
    for model in (joint, dual):
        named = {f"{model.detection_path}{name}": tensor for name, tensor in state.items()}
        # Of another class count the detection layer's weights and biases, of three levels, do not fit.
        assert transfer_weights(model, named, "official") == len(state) - left
        first = f"{model.detection_path}model.0.conv.weight"
        assert torch.equal(model.state_dict()[first], state["model.0.conv.weight"])


def test_training_starts_from_it(official, tiny_data, tmp_path):
    options = {"data": str(tiny_data), "epochs": 1, "imgsz": 64, "device": "cpu", "weights": str(official)}
    for script in ({}, {"script": train_joint_dual_backbone}):
        job = new_job(options | {"project": str(tmp_path), "amp": "off"}, **script)
        state = read_official(official)
        assert torch.equal(
            job.model.state_dict()[f"{job.model.detection_path}model.9.cv2.conv.weight"],
            state["model.9.cv2.conv.weight"],
        )


def test_the_average_comes_before_the_model_and_parts_of_a_storage_are_read(tmp_path):
    average, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    average.weight = torch.nn.Parameter(torch.arange(20.0)[5:17:2].view(2, 3))  # begins within its storage, with gaps
    path = tmp_path / "both.pt"
    torch.save({"model": model, "ema": average}, path)
    found = read_official(path)
    assert found.keys() == average.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in average.state_dict().items())


class Hostile:
    def __init__(self, function, argument):
        self.function, self.argument = function, argument

    def __reduce__(self):
        return self.function, (self.argument,)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.mkdir, eval, Path], ids=["os", "builtin", "class"])
def test_what_a_pickle_names_beyond_a_model_is_refused_by_name(tmp_path, function, protocol):
    trace = tmp_path / "trace"
    argument = str(trace) if function is not eval else f"__import__('os').mkdir({str(trace)!r})"
    content = pickle.dumps({"model": Hostile(function, argument), "note": "models.yolo"}, protocol=protocol)
    path = write_archive(tmp_path / "hostile.pt", content)
    with pytest.raises(UserError, match=r"refused.*(mkdir|eval|Path)"):
        read_official(path)
    assert is_official(path)
    assert not trace.exists()


def test_a_layer_of_the_file_has_no_behaviour(tmp_path):
    """Its class is ours and empty, whatever the class of that name would do when it is made."""
    content = b"\x80\x02}(X\x05\x00\x00\x00modelctorch.nn.modules.linear\nLinear\n)\x81}X\x08\x00\x00\x00_modules}sbu."
    assert read_official(write_archive(tmp_path / "empty.pt", content)) == {}


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_file_is_one_clear_line(tmp_path, damage):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    content = {"empty": b"", "cut": buffer.getvalue()[:100], "text": b"hello"}[damage]
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    assert not is_official(path)
    with pytest.raises(UserError, match="damaged"):
        read_official(path)
