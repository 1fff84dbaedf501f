"""A protocol file that is valid, and folds for it that are empty but for their names."""

from pathlib import Path

import yaml

CONTENT = {
    "question": "Is it better?",
    "folds": "folds",
    "seeds": [0, 1],
    "options": {"size": "n", "epochs": 3},
    "arms": {"fixed": "fixed", "gradnorm": "gradnorm"},
    "compare": [{"arm": "gradnorm", "reference": "fixed", "metric": "mAP50"}],
    "margins": {"mAP50": 0.08},
    "budget": {"trainings": 12, "hours": 2},
}


def write_protocol(folder: Path, content: dict | None = None, **changes: object) -> Path:
    """protocol.yaml in `folder`, with `changes` of keys of `content`; None leaves a key out."""
    for number in range(3):
        fold = folder / "folds" / f"fold{number}"
        fold.mkdir(parents=True, exist_ok=True)
        (fold / "data.yaml").touch()
    changed = (content or CONTENT) | changes
    whole = {key: value for key, value in changed.items() if value is not None}
    (folder / "protocol.yaml").write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
    return folder / "protocol.yaml"
