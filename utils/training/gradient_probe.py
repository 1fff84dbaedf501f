"""What is measured of the tasks' gradients in a batch, and the backward passes that measure it.

The *cut* is where the trunk, which both tasks share, ends: the feature maps that the heads read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from models.gradients import FeatureTaps, layer_gradients, weight_gradients
from models.gradnorm import TaskGradients
from models.gradnorm_balancer import GradNorm, LossWeighting
from utils.core.names import GRADNORM_PLACES
from utils.core.script import LOGGER
from utils.data.label_table import LabelTable
from utils.data.labels import UNKNOWN_VIEW
from utils.training.learner import Learner


@dataclass(frozen=True)
class GradientPlan:
    """What is to be known of the tasks' gradients in a batch.

    Attributes:
        labelled: some frame of it has a view, so that there are two tasks.
        full: its norms count, see `UsualBatch`.
        wanted_at: the place where the balancer wants them, or None.
        diagnosed: they go to interference.csv.
        combined: the balancer makes one gradient of them.
        taps: see each task's gradient at the cut; None if nothing there is to be known.
    """

    labelled: bool
    full: bool
    wanted_at: str | None
    diagnosed: bool
    combined: bool
    taps: FeatureTaps | None

    @property
    def forward_options(self) -> dict[str, object]:
        """What the model's forward pass is given beside the images."""
        if self.taps is None:
            return {}
        return {"tap": self.taps.attach}


@dataclass(frozen=True)
class UsualBatch:
    """What a batch holds as a rule, so that the gradient norms of batches can be compared.

    A norm at the cut falls about as 1 / sqrt(frames), frames being those that the loss is a mean
    over. So norms are taken from full batches only: of the usual size, at least half of it with a
    view. Where as a rule fewer have one, every batch is taken, and a norm is multiplied with
    sqrt(frames / usual frames) of its task.

    Attributes:
        frames: of a batch, over all processes.
        frames_with_view: how many of these have a view, on average.
    """

    frames: int
    frames_with_view: float

    @classmethod
    def of(cls, labels: LabelTable, batch_size: int) -> UsualBatch:
        """Of a training split with these labels."""
        frames = min(batch_size, len(labels))
        known = int((labels.views != UNKNOWN_VIEW).sum())
        return cls(frames, frames * (known / len(labels)))

    @property
    def is_rarely_labelled(self) -> bool:
        return self.frames_with_view < self.frames / 2

    def is_full(self, totals: Mapping[str, float]) -> bool:
        """Whether a batch's norms count; `totals` has its "frames" and those with "views"."""
        if self.is_rarely_labelled:
            return True
        return totals["frames"] >= self.frames and totals["views"] >= totals["frames"] / 2

    def comparable(self, gradients: TaskGradients, totals: Mapping[str, float]) -> TaskGradients:
        """The norms as a usual batch would have them."""
        if not self.is_rarely_labelled:
            return gradients
        factors = {
            "detection": math.sqrt(totals["frames"] / self.frames),
            "classification": math.sqrt(totals["views"] / self.frames_with_view),
        }
        norms = {task: norm * factors[task] for task, norm in gradients.norms.items()}
        return replace(gradients, norms=norms)


class GradientProbe:
    """Decides before a batch what is measured of its gradients; measures it in the backward pass.

    Args:
        balancer: what it wants, when, and where.
        model: with `last_shared_parameter` and `trunk_parameters` where those are measured.
        usual_batch: which batches' norms count.
        diagnose_interval: batches between two measurements for interference.csv; 0: never.
    """

    def __init__(
        self,
        balancer: LossWeighting,
        model: nn.Module,
        usual_batch: UsualBatch,
        diagnose_interval: int,
    ):
        self.balancer = balancer
        self.model = model
        self.usual_batch = usual_batch
        self.diagnose_interval = diagnose_interval
        if usual_batch.is_rarely_labelled and isinstance(balancer, GradNorm):
            share = usual_batch.frames_with_view / usual_batch.frames
            LOGGER.info(
                f"GradNorm: {share:.0%} of the training frames have a view, so no batch is full; "
                "gradient norms are scaled by the square root of the frames they come from"
            )

    def plan(self, step: int, totals: Mapping[str, float]) -> GradientPlan:
        """For batch number `step`, with so many "frames" and "views" over all processes."""
        labelled = totals["views"] > 0
        full = self.usual_batch.is_full(totals)
        combined = labelled and self.balancer.combines_gradients
        diagnosed = labelled and self._is_diagnosed(step)
        wanted_at = None
        if labelled and full and self.balancer.wants_gradients:
            wanted_at = self.balancer.place
        taps = None
        if diagnosed or combined or wanted_at == "features":
            taps = FeatureTaps(detached=combined)
        return GradientPlan(labelled, full, wanted_at, diagnosed, combined, taps)

    def _is_diagnosed(self, step: int) -> bool:
        return self.diagnose_interval > 0 and step % self.diagnose_interval == 0

    def backward(
        self,
        learners: Sequence[Learner],
        losses: Mapping[str, Tensor],
        plan: GradientPlan,
        totals: Mapping[str, float],
    ) -> dict[str, TaskGradients]:
        """Add the gradients of the balanced losses, and measure on the way what `plan` asks for.

        Args:
            learners: whose parameters get the gradients.
            losses: task -> mean loss, with graph.
            totals: the batch's "frames" and "views" over all processes.

        Returns:
            Place -> each task's gradient there: "features" (the cut), "weights" (the last shared
            layer), "trunk" or a layer of the trunk.
        """
        frames = totals["frames"]
        scale = 1.0
        if plan.taps or plan.wanted_at:  # on CUDA with fp16 the scale has to be waited for
            scale = learners[0].stepper.loss_scale
        measured: dict[str, TaskGradients] = {}
        if plan.wanted_at == "weights":
            shared = self.model.last_shared_parameter()
            measured["weights"] = weight_gradients(losses, shared, scale)
        if plan.diagnosed and not plan.combined:  # a combined gradient has no parts in the trunk
            measured |= layer_gradients(losses, self.model.trunk_parameters(), scale)
        for learner in learners:
            own_losses = {task: losses[task] for task in learner.part.tasks}
            learner.backward(self.balancer.combine(own_losses) * frames)
        if plan.combined:
            plan.taps.pass_on(self.balancer.aggregate)
        if plan.taps:
            weights = self.balancer.weights
            scales = {task: weight * frames * scale for task, weight in weights.items()}
            measured["features"] = plan.taps.read(scales)
        if plan.wanted_at:
            wanted = measured[plan.wanted_at]
            measured[plan.wanted_at] = self.usual_batch.comparable(wanted, totals)
        return measured


def interference_rows(measured: Mapping[str, TaskGradients]) -> list[dict[str, object]]:
    """What interference.csv says of a batch: of the cut, the whole trunk, each of its layers."""
    places = {"cut": measured["features"]}
    for place, gradients in measured.items():
        if place not in GRADNORM_PLACES:
            places[place] = gradients
    rows = []
    for place, gradients in places.items():
        row = {
            "place": place,
            "cosine": gradients.cosine,
            "magnitude_similarity": gradients.magnitude_similarity,
        }
        row |= {f"norm/{task}": norm for task, norm in gradients.norms.items()}
        rows.append(row)
    return rows
