"""The GradNorm paper's toy problem (Chen et al. 2018, section 4), with our GradNorm, drawn.

    python -m docs.toy_gradnorm              # three seeds; writes docs/toy_gradnorm.png

Two regression tasks f_i(x) = sigma_i tanh((B + eps_i) x), x in R^250 of unit length, y in R^100, B
~ N(0, 10) and eps_i ~ N(0, 3.5) elementwise (standard deviations), sigma = (1, 100). A trunk of
four layers of 100 ReLU units and one affine head a task learn both under squared loss. With equal
weights the task of sigma 100 drowns the other; GradNorm (alpha = 0.12) should give the small task
the larger weight, let the weights settle, and end with a lower sum of the test losses, each divided
by its value at the start (the paper's normalisation).

The paper does not name the optimiser. With Adam at 1e-4, the default here, it comes out so: after
15,000 steps the sum is 1.893 with equal weights and 1.876 with GradNorm for seed 0, 1.906 and 1.881
for seed 1, 1.914 and 1.858 for seed 2, and the small task, which equal weights leave near where it
began, has learnt as much as the other. Lower in three of three seeds is not significant (mean
-0.033, 95 % interval -0.084 to +0.019, t with 2 degrees of freedom), and between 7,500 and 11,000
steps the sums touch. With `--lr 1e-3` GradNorm leads for some 4,000 steps only; after 15,000 both
are within 0.025: 1.676 and 1.663, 1.664 and 1.675, 1.647 and 1.672. The likely reason: Adam divides
a gradient by its own size, so equal weights starve only the trunk of the small task's wishes, not
its head; and as the tasks share most of B, a trunk trained long enough for one serves both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from models.gradnorm_loss import GradNormLoss
from utils.core.arguments import script_parser
from utils.core.names import TASKS
from utils.core.script import LOGGER, run_script
from utils.core.settings import TINY, number, whole_number
from utils.plots.style import CLASSIFICATION, DETECTION

SIGMAS = (1.0, 100.0)
INPUTS = 250
OUTPUTS = 100
UNITS = 100  # of each of the trunk's layers
LAYERS = 4
ALPHA = 0.12
BATCH = 100
TEST_SAMPLES = 1000
EVALUATE_EVERY = 100  # steps
STEPS = 15_000
LEARNING_RATE = 1e-4
PICTURE = "docs/toy_gradnorm.png"
DARK = "#222222"
GREY = "#666666"


@dataclass(frozen=True)
class Course:
    """What one training went through; a row every `EVALUATE_EVERY` steps.

    Attributes:
        steps: (n,).
        weights: (n, 2), of the tasks of sigma 1 and 100.
        losses: (n, 2), test losses relative to their start.
    """

    steps: np.ndarray
    weights: np.ndarray
    losses: np.ndarray


class ToyProblem:
    """The two functions of a seed, and samples of them."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        base = 10.0 * self._normal(OUTPUTS, INPUTS)
        self.matrices = [base + 3.5 * self._normal(OUTPUTS, INPUTS) for _ in SIGMAS]

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def sample(self, count: int) -> tuple[Tensor, list[Tensor]]:
        """-> x (count, 250), and y (count, 100) of every task."""
        x = nn.functional.normalize(self._normal(count, INPUTS), dim=1)
        targets = []
        for sigma, matrix in zip(SIGMAS, self.matrices, strict=True):
            targets.append(sigma * torch.tanh(x @ matrix.T))
        return x, targets


def train_toy(
    seed: int, steps: int, balanced: bool, learning_rate: float = LEARNING_RATE
) -> Course:
    """Train on the toy of `seed` by Adam, with GradNorm or with equal weights."""
    problem = ToyProblem(seed)
    test_x, test_y = problem.sample(TEST_SAMPLES)
    torch.manual_seed(seed)
    trunk, heads = build_network()
    criterion = build_criterion(balanced, steps)
    optimizer = torch.optim.Adam([*trunk.parameters(), *heads.parameters()], lr=learning_rate)
    rows = []
    for step in range(steps + 1):
        if step % EVALUATE_EVERY == 0:
            weights = [criterion.balancer.weights[task] for task in TASKS]
            rows.append((step, *weights, *losses_of(trunk, heads, test_x, test_y)))
        x, y = problem.sample(BATCH)
        features = trunk(x)
        loss = criterion(
            heads[0](features), y[0], heads[1](features), y[1], shared=trunk[-1][0].weight
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    table = np.array(rows)
    return Course(table[:, 0], table[:, 1:3], table[:, 3:] / table[0, 3:])


def build_network() -> tuple[nn.Sequential, nn.ModuleList]:
    """A new trunk, and a head a task."""
    widths = [INPUTS] + [UNITS] * LAYERS
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    return nn.Sequential(*layers), nn.ModuleList(nn.Linear(UNITS, OUTPUTS) for _ in SIGMAS)


def build_criterion(balanced: bool, steps: int) -> GradNormLoss:
    interval = steps + 1  # never comes, and so leaves the weights equal
    if balanced:
        interval = 1
    mse = nn.functional.mse_loss
    return GradNormLoss(mse, mse, ALPHA, interval=interval, min_share=1e-4)


@torch.no_grad()
def losses_of(trunk: nn.Module, heads: nn.ModuleList, x: Tensor, targets: list[Tensor]) -> list:
    """The loss of every task."""
    features = trunk(x)
    return [
        nn.functional.mse_loss(head(features), y).item()
        for head, y in zip(heads, targets, strict=True)
    ]


def draw(courses: dict[int, tuple[Course, Course]], path: Path) -> None:
    """Weights, normalised test losses of each task, and their sum; a thin line a seed."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    weights, tasks, total = figure.subplots(1, 3)
    colours = {"sigma = 1": DETECTION, "sigma = 100": CLASSIFICATION}
    for equal, balanced in courses.values():
        for i, colour in enumerate(colours.values()):
            _line(weights, balanced.steps, balanced.weights[:, i], colour)
            _line(tasks, balanced.steps, balanced.losses[:, i], colour)
            _line(tasks, equal.steps, equal.losses[:, i], colour, ":")
        _line(total, equal.steps, equal.losses.sum(1), GREY, ":")
        _line(total, balanced.steps, balanced.losses.sum(1), DARK)
    for name, colour in colours.items():
        _legend_line(weights, name, colour)
        _legend_line(tasks, name, colour)
    _legend_line(tasks, "equal weights", DARK, ":")
    _legend_line(total, "GradNorm", DARK)
    _legend_line(total, "equal weights", GREY, ":")
    _finish(weights, "loss weights")
    _finish(tasks, "test loss / its start")
    _finish(total, "sum of both")
    figure.savefig(path, dpi=150)


def _line(ax: Axes, steps: np.ndarray, values: np.ndarray, colour: str, style: str = "-") -> None:
    ax.plot(steps, values, color=colour, linewidth=1.2, linestyle=style)


def _legend_line(ax: Axes, name: str, colour: str, style: str = "-") -> None:
    ax.plot([], [], color=colour, linestyle=style, label=name)


def _finish(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
    ax.set_xlabel("step")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--seeds",
        type=whole_number(0),
        nargs="+",
        default=[0, 1, 2],
        help="a training each (default: 0 1 2)",
    )
    parser.add_argument(
        "--steps", type=whole_number(1), default=STEPS, help=f"of a training (default: {STEPS})"
    )
    parser.add_argument(
        "--lr",
        type=number(TINY),
        default=LEARNING_RATE,
        help=f"Adam's learning rate (default: {LEARNING_RATE:g})",
    )
    parser.add_argument(
        "--out", type=Path, default=Path(PICTURE), help=f"picture (default: {PICTURE})"
    )
    args = parser.parse_args()
    courses = {}
    for seed in args.seeds:
        equal = train_toy(seed, args.steps, False, args.lr)
        balanced = train_toy(seed, args.steps, True, args.lr)
        courses[seed] = equal, balanced
        LOGGER.info(
            f"seed {seed}: sum of the normalised test losses "
            f"{equal.losses[-1].sum():.4f} with equal weights, "
            f"{balanced.losses[-1].sum():.4f} with GradNorm; "
            f"last weights {balanced.weights[-1].round(3).tolist()}"
        )
    draw(courses, args.out)


if __name__ == "__main__":
    run_script(main)
