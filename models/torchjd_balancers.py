"""Other people's ways to balance two tasks, through TorchJD's public interface; an optional extra.

Loss scalarisations make one loss of two:

    uw            uncertainty weighting (Kendall, Gal, Cipolla 2018)
    dwa           dynamic weight average (Liu, Johns, Davison 2019)

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

They differ in the length of what they return, which AdamW hardly notices. In one process only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.gradnorm_balancer import LossWeighting
from utils.core.names import TASKS, TORCHJD_SCALARISERS
from utils.core.script import UserError

INSTALL = "pip install 'torchjd[cagrad,quadprog-projector]>=0.18,<0.19'"
CAGRAD_RADIUS = 0.4  # its authors' choice for most data sets
UW_LEARNING_RATE = 0.025  # of Adam on the log-variances; as GradNorm's weights


def torchjd_balancer(name: str) -> LossWeighting:
    """The balancer of that name.

    Raises:
        UserError: TorchJD, or what it needs for this method, is not installed.
    """
    try:
        if name in TORCHJD_SCALARISERS:
            return Scalarised(name)
        return GradientCombiner(name)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--balancer {name} needs an extra package ({reason}); install it: {INSTALL}"
        ) from None


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
        values = torch.stack([losses[task] for task in TASKS])
        total = self.scalariser.to(values.device)(values)
        (slopes,) = torch.autograd.grad(total, values, retain_graph=True)
        self.weights = dict(zip(TASKS, slopes.tolist(), strict=True))
        self._sum = self._sum.to(values.device) + values.detach()
        self._batches += 1
        return total

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
        self._epoch_means.append((self._sum / max(self._batches, 1)).cpu())
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


class GradientCombiner(LossWeighting):
    """A TorchJD aggregator of the two tasks' gradients at the cut.

    Args:
        name: one of `TORCHJD_AGGREGATORS`.
    """

    combines_gradients = True

    def __init__(self, name: str):
        from torchjd.aggregation import IMTLG, MGDA, AlignedMTL, CAGrad, PCGrad, UPGrad

        super().__init__(dict.fromkeys(TASKS, 1.0))
        makers = {
            "pcgrad": PCGrad,
            "upgrad": UPGrad,
            "mgda": MGDA,
            "imtl-g": IMTLG,
            "aligned-mtl": AlignedMTL,
            "cagrad": lambda: CAGrad(c=CAGRAD_RADIUS),
        }
        self._aggregator = makers[name]()

    def aggregate(self, gradients: Tensor) -> Tensor:
        """(2, n) the tasks' gradients -> (n,) the one to descend.

        It is their sum where a value is not finite.
        """
        if not gradients.isfinite().all():
            return gradients.sum(dim=0)
        return self._aggregator(gradients)
