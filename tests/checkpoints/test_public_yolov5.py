"""Checkpoints of the public YOLOv5.

What they hold comes out, what they could do does not happen.
"""

import argparse
import datetime
import io
import os
import pickle
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
import torch
from small_models import mini_models, stirred
from small_runs import new_job

import train_joint_dual_backbone
from models.dual_backbone import DualBackbone
from models.yolo import DetectionModel, YOLOv5WithClassification
from utils.checkpoints.checkpoint import save_checkpoint, transfer_weights
from utils.checkpoints.model_file import ModelMetadata, model_from_checkpoint, open_model
from utils.checkpoints.public_yolov5 import is_public_yolov5, read_public_yolov5
from utils.core.device import select_compute
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
    model.load_state_dict(read_public_yolov5(official))
    with torch.inference_mode():
        decoded = model.decode(model(torch.from_numpy(golden["image"]))["detect"])
    np.testing.assert_allclose(decoded.numpy(), golden["official_decoded"], rtol=1e-4, atol=0.02)


@pytest.mark.parametrize(("nc", "left"), [(4, 0), (7, 6)])
def test_it_starts_the_joint_and_the_dual_model(official, nc, left):
    state = read_public_yolov5(official)
    joint = YOLOv5WithClassification("models/yolov5s_joint.yaml", nc)
    dual = DualBackbone("models/yolov5s.yaml", "models/view_classifier.yaml", nc)
    for model in (joint, dual):
        named = {f"{model.detection_path}{name}": tensor for name, tensor in state.items()}
        # Of another class count the detection layer's weights and biases, of three levels, do not
        # fit.
        assert transfer_weights(model, named, "official") == len(state) - left
        first = f"{model.detection_path}model.0.conv.weight"
        assert torch.equal(model.state_dict()[first], state["model.0.conv.weight"])


def test_training_starts_from_it(official, tiny_data, tmp_path):
    options = {
        "data": str(tiny_data),
        "epochs": 1,
        "imgsz": 64,
        "device": "cpu",
        "weights": str(official),
    }
    for script in ({}, {"script": train_joint_dual_backbone}):
        job = new_job(options | {"project": str(tmp_path), "amp": "off"}, **script)
        state = read_public_yolov5(official)
        assert torch.equal(
            job.model.state_dict()[f"{job.model.detection_path}model.9.cv2.conv.weight"],
            state["model.9.cv2.conv.weight"],
        )


def test_the_average_comes_before_the_model_and_parts_of_a_storage_are_read(tmp_path):
    average, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    average.weight = torch.nn.Parameter(
        torch.arange(20.0)[5:17:2].view(2, 3)
    )  # begins within its storage, with gaps
    path = tmp_path / "both.pt"
    torch.save({"model": model, "ema": average}, path)
    found = read_public_yolov5(path)
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
    content = pickle.dumps(
        {"model": Hostile(function, argument), "note": "models.yolo"}, protocol=protocol
    )
    path = write_archive(tmp_path / "hostile.pt", content)
    with pytest.raises(UserError, match=r"refused.*(mkdir|eval|Path)"):
        read_public_yolov5(path)
    assert is_public_yolov5(path)
    assert not trace.exists()


def test_a_layer_of_the_file_has_no_behaviour(tmp_path):
    """Its class is ours and empty, whatever the class of that name would do when it is made."""
    content = b"\x80\x02}(X\x05\x00\x00\x00modelctorch.nn.modules.linear\nLinear\n)\x81}X\x08\x00\x00\x00_modules}sbu."
    assert read_public_yolov5(write_archive(tmp_path / "empty.pt", content)) == {}


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_file_is_one_clear_line(tmp_path, damage):
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    content = {"empty": b"", "cut": buffer.getvalue()[:100], "text": b"hello"}[damage]
    path = tmp_path / "damaged.pt"
    path.write_bytes(content)
    assert not is_public_yolov5(path)
    with pytest.raises(UserError, match="damaged"):
        read_public_yolov5(path)


# ---- as a detector -------------------------------------------------------------------------------


def public_model(**attributes: object) -> DetectionModel:
    """A few layers under the names that YOLOv5 has for them, so that a pickle of it is as
    YOLOv5's.
    """
    model = mini_models()["dual"].detector
    model.yaml = {**model.cfg, "nc": 4, "ch": 3, "yaml_file": "mini.yaml"}
    model.names = ["AR", "MR", "PR", "TR"]
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def save_public(path: Path, model: object, protocol: int = 2, **notes: object) -> Path:
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "optimizer": None,
        **notes,
    }
    torch.save(content, path, pickle_protocol=protocol)
    return path


def opened(path: Path) -> tuple[torch.nn.Module, ModelMetadata]:
    return open_model(path, model_from_checkpoint, select_compute("off", torch.device("cpu")))


def test_the_public_trainers_file_is_a_detector(official, golden):
    model, metadata = opened(official)
    with torch.inference_mode():
        decoded = model.decode(model(torch.from_numpy(golden["image"]))["detect"])
    np.testing.assert_allclose(decoded.numpy(), golden["official_decoded"], rtol=1e-4, atol=0.02)
    assert (metadata.kind, metadata.names, metadata.view_names) == (
        "detection",
        ["AR", "MR", "PR", "TR"],
        [],
    )
    assert (metadata.imgsz, metadata.confidence, metadata.data, metadata.view_prior) == (
        320,
        None,
        "",
        None,
    )


def test_a_strangers_file_is_a_detector(shared_dir):
    model, metadata = opened(shared_dir / "reference" / "yolov5n_public_finetune.pt")
    assert metadata.names == ["face"] and metadata.imgsz == 640 and model.tasks == ("detection",)
    with torch.inference_mode():
        assert model.decode(model(torch.zeros(1, 3, 64, 64))["detect"]).shape == (1, 252, 6)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_detector_answers_as_it_did(tmp_path, protocol):
    """From half precision, computed in float32; the average comes first."""
    model, other = stirred(public_model()).half(), public_model()
    path = save_public(tmp_path / "a.pt", other, protocol, ema=model)
    found, images = opened(path)[0], torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        for raw, expected in zip(
            found(images)["detect"], model.float()(images)["detect"], strict=True
        ):
            torch.testing.assert_close(raw, expected, rtol=1e-3, atol=1e-3)


NOTES = {
    "a NumPy number": np.float64(0.25),
    "a NumPy integer": np.int64(3),
    "a NumPy array": np.array([0.1, 0.2]),
    "a NumPy array of one": np.array(0.5),
    "a NumPy type": np.dtype("float32"),
    "a time": datetime.datetime(2022, 2, 13, 2, 39, 21, 517428),
    "a time in a zone": datetime.datetime(2022, 2, 13, tzinfo=datetime.timezone.utc),
    "a day": datetime.date(2022, 2, 13),
    "a duration": datetime.timedelta(seconds=5),
    "options": argparse.Namespace(imgsz=320, weights="", device=""),
    "a path": PurePosixPath("runs/train/exp"),
    "a path on Windows": PureWindowsPath("runs/train/exp"),
    "a device": torch.device("cpu"),
    "plain values": {"a": [1, 2.0, None, True, "x", (1, 2), {3}]},
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", NOTES)
def test_what_a_trainer_notes_beside_the_model_does_not_matter(tmp_path, kind, protocol):
    path = save_public(
        tmp_path / "a.pt", public_model(hyp={"x": NOTES[kind]}), protocol, best_fitness=NOTES[kind]
    )
    assert is_public_yolov5(path) and opened(path)[1].names == ["AR", "MR", "PR", "TR"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b", "c", "d"], ["a", "b", "c", "d"]),
        (("a", "b", "c", "d"), ["a", "b", "c", "d"]),
        ({0: "a", 1: "b", 2: "c", 3: "d"}, ["a", "b", "c", "d"]),
        ({3: "d", 0: "a", 2: "c", 1: "b"}, ["a", "b", "c", "d"]),
    ],
)
def test_names(tmp_path, names, expected):
    assert opened(save_public(tmp_path / "a.pt", public_model(names=names)))[1].names == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imgsz": 320}, 320),
        (argparse.Namespace(imgsz=416), 416),
        ({"img_size": [512, 512]}, 512),
        ({"imgsz": 100}, 128),
        ({"imgsz": "large"}, 640),
        ({"imgsz": []}, 640),
        ({"imgsz": 0}, 640),
        ({}, 640),
        (None, 640),
        ("opt.yaml", 640),
    ],
)
def test_the_image_size_is_the_files_or_yolov5s(tmp_path, options, expected):
    assert opened(save_public(tmp_path / "a.pt", public_model(), opt=options))[1].imgsz == expected


def test_the_anchors_are_those_of_the_weights(tmp_path):
    """A YAML may give only how many there are, which a training then fitted."""
    model = public_model()
    model.yaml["anchors"] = 3
    model.detect.anchors.mul_(1.5)
    found = opened(save_public(tmp_path / "a.pt", model))[0]
    assert torch.equal(found.detect.anchors, model.detect.anchors)


def with_other(name: str, layer: torch.nn.Module) -> DetectionModel:
    model = public_model()
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
    return model


def with_changed(name: str, **attributes: object) -> DetectionModel:
    model = public_model()
    for attribute, value in attributes.items():
        setattr(model.get_submodule(name), attribute, value)
    return model


def with_yaml(**keys: object) -> DetectionModel:
    model = public_model()
    model.yaml |= keys
    return model


def with_row(index: int, row: list) -> DetectionModel:
    return with_yaml(
        backbone=[
            row if i == index else old for i, old in enumerate(public_model().yaml["backbone"])
        ]
    )


def with_weight(value: float) -> DetectionModel:
    model = public_model()
    model.model[0].conv.weight.data[0, 0, 0, 0] = value
    return model


def without(attribute: str) -> DetectionModel:
    model = public_model()
    delattr(model, attribute)
    return model


UNSUPPORTED = {
    "another activation": (lambda: with_other("model.0.act", torch.nn.ReLU()), "model.0.act is ReLU, expected SiLU"),
    "no activation": (lambda: with_other("model.1.act", torch.nn.Identity()), "layer model.1.act is Identity"),
    "a norm with another epsilon": (lambda: with_changed("model.0.bn", eps=1e-5), "model.0.bn has eps 1e-05"),
    "a dilated convolution": (lambda: with_changed("model.2.conv", dilation=(2, 2)), "has dilation (2, 2)"),
    "another padding": (lambda: with_changed("model.2.conv", padding=(0, 0)), "model.2.conv has padding (0, 0)"),
    "no shortcut": (lambda: with_changed("model.3.m.0", add=False), "model.3.m.0 has add False"),
    "another pool": (lambda: with_changed("model.5.m", kernel_size=3), "model.5.m has kernel_size 3"),
    "another upsampling": (lambda: with_changed("model.6", mode="bilinear"), "model.6 has mode 'bilinear'"),
    "other strides": (lambda: with_changed("model.8", stride=torch.tensor([4.0, 8, 16])), "strides [4.0, 8.0, 16.0]"),
    "an activation in the YAML": (lambda: with_yaml(activation="nn.ReLU()"), "activation is 'nn.ReLU()'"),
    "grey images": (lambda: with_yaml(ch=1), "ch is 1"),
    "P6": (lambda: with_row(4, [-1, 1, "Conv", [16, 3, 4]]), "models with a level P6"),
    "a module of its own": (lambda: with_row(3, [-1, 1, "C3Ghost", [16]]), "model layer 3: unknown module 'C3Ghost'"),
    "code in the YAML": (lambda: with_row(3, [-1, 1, "C3", ["__import__('os').abort()"]]), "layer 3, C3: channels is"),
    "more classes than weights": (lambda: with_yaml(nc=7), "names are ['AR', 'MR', 'PR', 'TR'], expected 7"),
    "a name too few": (lambda: public_model(names=["AR"]), "names are ['AR'], expected 4"),
    "names of numbers": (lambda: public_model(names=[1, 2, 3, 4]), "names are [1, 2, 3, 4]"),
    "the same name twice": (lambda: public_model(names=["a", "a", "b", "c"]), "names is ['a', 'a', 'b', 'c']"),
    "numbers with a gap": (lambda: public_model(names={0: "a", 1: "b", 2: "c", 4: "d"}), "names are "),
    "weights that are not numbers": (lambda: with_weight(float("nan")), "model.model.0.conv.weight has values"),
    "weights that are infinite": (lambda: with_weight(float("inf")), "model.model.0.conv.weight has values"),
    "a layer missing": (lambda: with_other("model.3.cv1", torch.nn.Identity()), "layer model.3.cv1 is Identity"),
    "no YAML": (lambda: without("yaml"), "it holds no model YAML"),
    "a YAML that is text": (lambda: public_model(yaml="yolov5s.yaml"), "it holds no model YAML"),
    "a YAML without a head": (lambda: public_model(yaml={"nc": 4}), "keys ['anchors', 'backbone', 'head'] are missing"),
    "rows that are none": (lambda: with_yaml(head=5), "head is 5, expected rows"),
    "a state dict": (lambda: public_model().state_dict() | {"models.yolo": 1}, "its model is a"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_what_is_not_supported_is_one_line(tmp_path, kind):
    make, expected = UNSUPPORTED[kind]
    path = save_public(tmp_path / "a.pt", make())
    with pytest.raises(UserError) as refused:
        opened(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and expected in message


def test_a_flipped_bit_is_seen(tmp_path):
    path = save_public(tmp_path / "a.pt", public_model())
    content = bytearray(path.read_bytes())
    place = content.index(public_model().model[0].conv.weight.detach().numpy().tobytes())
    content[place + 9] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="Bad CRC-32"):
        opened(path)


def test_nothing_of_a_note_is_executed(tmp_path):
    trace = tmp_path / "trace"
    path = save_public(
        tmp_path / "a.pt", public_model(), best_fitness=Hostile(os.mkdir, str(trace))
    )
    with pytest.raises(UserError, match=r"refused: it names posix\.mkdir"):
        opened(path)
    assert not trace.exists()


def test_our_own_file_that_speaks_of_yolov5_is_ours(tmp_path):
    model = mini_models()["joint"]
    content = {
        "kind": "joint",
        "arguments": model.arguments(),
        "model": model.state_dict(),
        "note": "models.yolo",
    }
    save_checkpoint(tmp_path / "a.pt", content)
    assert not is_public_yolov5(tmp_path / "a.pt")


def test_it_is_not_resumed(tmp_path):
    path = save_public(tmp_path / "last.pt", public_model())
    with pytest.raises(
        UserError, match=r"last\.pt: a public YOLOv5 checkpoint cannot be resumed; .*--weights"
    ):
        new_job({"resume": str(path)})
