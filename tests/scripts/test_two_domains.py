"""Every command on a few images of both public data sets: echo frames and chest X-rays."""

import json
from pathlib import Path

import pytest
import yaml
from script_processes import ScriptProcess

from utils.core.data_config import load_data_config
from utils.curation.clips import write_split
from utils.data.splits import find_images

LONGEST_S = 3600
KEPT = 60  # images of each set; folds need every class and view in both halves
SMALL = "--size n --imgsz 64 --epochs 1 --device cpu --project runs"
COMMANDS = (
    "check_dataset.py --data few/data.yaml --out check",
    "split_dataset.py --data few/data.yaml --folds 2 --out folds",
    f"train_joint_gradnorm.py --data folds/fold0/data.yaml --name joint {SMALL}",
    f"train_joint_dual_backbone.py --data folds/fold0/data.yaml --name dual {SMALL}",
    "val.py --weights runs/joint/weights/last.pt --device cpu --project runs --name val",
    f"compare_solutions.py --folds folds --arms gradnorm --seeds 0 --name compared {SMALL}",
    "detect.py --weights runs/dual/weights/last.pt --source one.jpg --device cpu --project runs "
    "--name found",
    "export.py --weights runs/joint/weights/last.pt",
)
FOUND = {"check_dataset.py": (0, 1)}  # with findings it ends with 1


def write_few(path: Path, folder: Path) -> Path:
    """A data set in `folder` of every n-th image of another one; returns one of them."""
    data = load_data_config(path)
    images = {}
    for name, places in data.splits.items():
        own = find_images(places, name, path)
        images[name] = own[:: max(1, len(own) * 2 // KEPT)]
    write_split(folder, data, images, "A few images")
    return images["val"][0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chest-xray", "regurgitation"])
def test_every_command_works(name: str, shared_dir: Path, tmp_path: Path):
    pytest.importorskip("onnxscript", reason="needs pip install '.[export]'")
    image = write_few(shared_dir / name / "data.yaml", tmp_path / "few")
    (tmp_path / "one.jpg").symlink_to(image)
    for line in COMMANDS:
        script, *words = line.split()
        process = ScriptProcess(script, *words, cwd=tmp_path, OMP_NUM_THREADS="1")
        _, said = process.communicate(LONGEST_S)
        assert process.returncode in FOUND.get(script, (0,)), f"{line}\n{said[-2000:]}"
        assert "Traceback" not in said
    data = yaml.safe_load((tmp_path / "few/data.yaml").read_text())
    metrics = json.loads((tmp_path / "runs/val/metrics.json").read_text())
    assert metrics["names"] == data["names"]
    assert metrics["view_names"] == data["cls_names"]
    assert (tmp_path / "runs/compared/report.md").is_file()
    assert (tmp_path / "runs/found/one.jpg").is_file()
    assert (tmp_path / "runs/joint/weights/last.onnx").is_file()
