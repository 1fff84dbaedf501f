"""Other people's ways to balance two tasks, through TorchJD's public interface; an optional extra.

Loss scalarisations make one loss of two:

    uw            uncertainty weighting (Kendall, Gal, Cipolla 2018)
    dwa           dynamic weight average (Liu, Johns, Davison 2019)
    stch          smooth Tchebycheff: a soft maximum of the losses, each over its first value (Lin
                  et al. 2024, arXiv 2402.19078)
    famo          the loss that falls slowest, relative to itself, counts more in the next batch
                  (Liu et al. 2023)

Gradient aggregators make one gradient of two, here of the tasks' gradients at the cut, that is of
all that the heads are given. The heads themselves descend their own losses:

    pcgrad        projects conflicting gradients off each other (Yu et al. 2020)
    upgrad        the same, averaged rather than summed for two tasks (Quinton, Rey 2024)
    mgda          the shortest vector of the gradients' convex hull (Desideri 2012; Sener, Koltun
                  2018)
    imtl-g        equal projections on both gradients (Liu et al. 2021)
    aligned-mtl   aligns the gradients' principal components (Senushkin et al. 2023)
    cagrad        the best worst task within a ball round the mean, whose radius is 0.4 times the
                  mean's length (Liu et al. 2021)
    config        equal cosines with both gradients; its length is the sum of their projections
                  (Liu et al. 2024, arXiv 2408.11104). Of two tasks it points where imtl-g does

They differ in the length of what they return, which AdamW hardly notices. In one process only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.gradnorm_balancer import LossWeighting
from utils.core.names import TASKS
from utils.core.script import UserError

INSTALL = "pip install 'torchjd[cagrad,quadprog-projector]>=0.18,<0.19'"
CAGRAD_RADIUS = 0.4  # its authors' choice for most data sets
UW_LEARNING_RATE = 0.025  # of Adam on the log-variances; as GradNorm's weights
# Of the soft maximum of losses that start at 1: the second smallest that its authors tried.
STCH_SMOOTHING = 0.1


def torchjd_balancer(name: str) -> LossWeighting:
    """The balancer of that name.

    Raises:
        UserError: TorchJD, or what it needs for this method, is not installed.
    """
    try:
        if name == "stch":
            return SmoothTchebycheff()
        if name == "famo":
            return Famo()
        if name in ("uw", "dwa"):
            return Scalarised(name)
        return GradientCombiner(name)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--balancer {name} needs an extra package ({reason}); install it: {INSTALL}"
        ) from None


def stacked(losses: Mapping[str, Tensor]) -> Tensor:
    """(2,) the losses, on the CPU, where the scalarisers and all that they remember stay."""
    return torch.stack([losses[task] for task in TASKS]).cpu()


def slopes(total: Tensor, values: Tensor) -> dict[str, float]:
    """The derivative of the combined loss with respect to each task's."""
    (found,) = torch.autograd.grad(total, values, retain_graph=True)
    return dict(zip(TASKS, found.tolist(), strict=True))


class Scalarised(LossWeighting):
    """The loss of a TorchJD scalariser; what it learns of its own has an Adam of its own.

    Args:
        name: "uw" or "dwa".

    Attributes:
        weights: the derivative of the combined loss with respect to each task's.
    """

    def __init__(self, name: str):
        from torchjd.scalarization import DWA, UW

        super().__init__(dict.fromkeys(TASKS, 1.0))
        if name == "uw":
            self.scalariser = UW(len(TASKS))
        else:
            self.scalariser = DWA()
        parameters = list(self.scalariser.parameters())
        self._optimizer: torch.optim.Adam | None = None
        if parameters:
            self._optimizer = torch.optim.Adam(parameters, lr=UW_LEARNING_RATE)
        # Of the last two epochs, all that DWA remembers between epochs.
        self._epoch_means: list[Tensor] = []
        # As DWA counts, to the last bit: a resumed training repeats its epochs from these.
        self._sum = torch.zeros(len(TASKS))
        self._batches = 0

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        values = stacked(losses)
        total = self.scalariser(values)
        self.weights = slopes(total, values)
        self._sum = self._sum + values.detach()
        self._batches += 1
        return total.to(losses[TASKS[0]].device)

    def observe(
        self,
        losses: Mapping[str, Tensor],
        gradients: object = None,
        labelled: bool = True,
        full: bool = True,
    ) -> None:
        """After the backward pass: move what the scalariser learns."""
        if self._optimizer:
            self._optimizer.step()
            self._optimizer.zero_grad()

    def end_epoch(self) -> None:
        self._epoch_means.append(self._sum / max(self._batches, 1))
        self._epoch_means = self._epoch_means[-2:]
        self._sum = torch.zeros_like(self._sum)
        self._batches = 0
        if hasattr(self.scalariser, "step"):
            self.scalariser.step()

    def state_dict(self) -> dict[str, object]:
        adam = None
        if self._optimizer:
            adam = self._optimizer.state_dict()
        return {
            **super().state_dict(),
            "scalariser": self.scalariser.state_dict(),
            "adam": adam,
            "epoch_means": list(self._epoch_means),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        super().load_state_dict(state)
        self.scalariser.load_state_dict(state["scalariser"])
        if self._optimizer:
            self._optimizer.load_state_dict(state["adam"])
        self._epoch_means = list(state["epoch_means"])
        if hasattr(self.scalariser, "step"):  # its history is no part of its state dict: repeat it
            self.scalariser.reset()
            for means in self._epoch_means:
                self.scalariser(means)
                self.scalariser.step()


class SmoothTchebycheff(LossWeighting):
    """mu log sum_i exp(L_i / (mu L_i(0))): near the larger of the losses, each over its first.

    L_i(0) is the loss of the first batch in which both are above zero, so both start equal. Until
    then the weights are 1 and 1.

    Attributes:
        first_losses: task -> L_i(0); empty until they are known.
        weights: the derivative of the combined loss with respect to each task's.
    """

    def __init__(self):
        from torchjd.scalarization import STCH

        super().__init__(dict.fromkeys(TASKS, 1.0))
        self._stch = STCH
        self.first_losses: dict[str, float] = {}

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        values = stacked(losses)
        if not self.first_losses:
            if values.min() <= 0:
                return super().combine(losses)
            self.first_losses = dict(zip(TASKS, values.tolist(), strict=True))
        preferences = torch.tensor([1 / self.first_losses[task] for task in TASKS])
        total = self._stch(STCH_SMOOTHING, preferences)(values)
        self.weights = slopes(total, values)
        return total.to(losses[TASKS[0]].device)

    def state_dict(self) -> dict[str, object]:
        return {**super().state_dict(), "first_losses": dict(self.first_losses)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        super().load_state_dict(state)
        self.first_losses = dict(state["first_losses"])


class Famo(LossWeighting):
    """FAMO: descends c sum_i z_i log L_i, z = softmax(w); w follows how much each loss fell.

    How much a step changed the losses is seen on the same batch, so every batch has a second
    forward pass, as in its authors' code: with dropout, and batch norms take note of it, too. A
    batch in which a loss is not above zero, as without any view, keeps the weights
    of the one before and teaches nothing.

    Attributes:
        weights: the derivative of the combined loss with respect to each task's.
    """

    looks_again = True

    def __init__(self):
        from torchjd.scalarization import FAMO

        super().__init__(dict.fromkeys(TASKS, 1.0))
        self._scalariser = FAMO(len(TASKS))
        # TorchJD's own would be made at its first step, and could not be kept in a checkpoint.
        self._adam = torch.optim.Adam(
            self._scalariser.parameters(),
            lr=self._scalariser.lr,
            weight_decay=self._scalariser.weight_decay,
        )
        self._scalariser._optimizer = self._adam
        self._counts = False

    def combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        values = stacked(losses)
        self._counts = bool((values > 0).all())
        if not self._counts:
            return super().combine(losses)
        total = self._scalariser(values)
        self.weights = slopes(total, values)
        return total.to(losses[TASKS[0]].device)

    def look_again(self, losses: Mapping[str, Tensor]) -> None:
        if self._counts:
            self._scalariser.update(stacked(losses))

    def state_dict(self) -> dict[str, object]:
        return {
            **super().state_dict(),
            "scalariser": self._scalariser.state_dict(),
            "adam": self._adam.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        super().load_state_dict(state)
        self._scalariser.load_state_dict(state["scalariser"])
        self._adam.load_state_dict(state["adam"])


class GradientCombiner(LossWeighting):
    """A TorchJD aggregator of the two tasks' gradients at the cut.

    Args:
        name: one of `TORCHJD_AGGREGATORS`.
    """

    combines_gradients = True

    def __init__(self, name: str):
        from torchjd.aggregation import IMTLG, MGDA, AlignedMTL, CAGrad, ConFIG, PCGrad, UPGrad

        super().__init__(dict.fromkeys(TASKS, 1.0))
        makers = {
            "pcgrad": PCGrad,
            "upgrad": UPGrad,
            "mgda": MGDA,
            "imtl-g": IMTLG,
            "aligned-mtl": AlignedMTL,
            "cagrad": lambda: CAGrad(c=CAGRAD_RADIUS),
            "config": ConFIG,
        }
        self._aggregator = makers[name]()

    def aggregate(self, gradients: Tensor) -> Tensor:
        """(2, n) the tasks' gradients -> (n,) the one to descend.

        It is their sum where a value is not finite.
        """
        if not gradients.isfinite().all():
            return gradients.sum(dim=0)
        return self._aggregator(gradients)
