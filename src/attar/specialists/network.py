"""Generalist and specialists as one network: inputs in, log q of all classes out."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn

from attar.errors import AttarError, check_positive
from attar.specialists.combining import (
    MOST_STEPS,
    TOLERANCE,
    Combination,
    SpecialistAnswer,
    combine_unchecked,
)
from attar.specialists.dustbin import correct_dustbin, log_sum_others, raise_dustbin
from attar.specialists.grouping import check_groups
from attar.specialists.solving import Direction
from attar.specialists.training import Specialist


class SpecialistEnsemble(nn.Module):
    """A generalist, and the specialists that its most probable classes call.

    It is an ordinary network in evaluation: `attar.compare` measures it, `attar.label` makes soft
    targets of it. Its logits are the logarithms of q, and it is not made to be trained.

    Where specialists share the generalist's lower layers, these are computed once, as `trunk`; else
    `trunk` is an `nn.Identity`, and generalist and specialists are whole networks.

    Args:
        trunk: Inputs -> features that generalist and specialists share.
        generalist: Features -> logits of all classes.
        specialists: Their networks map features to outputs of their classes and the dustbin.
        classes: How many there are in all.
        most_probable: How many of the generalist's most probable classes choose the specialists:
            those that know one of them are active. n in the paper, where it is 1.
        direction: Of the divergences in eq. 5.

    Raises:
        AttarError: If there is no specialist, or one's classes are none of these.

    Source: Hinton et al. (2015), sec. 5.4.
    """

    def __init__(
        self,
        trunk: nn.Module,
        generalist: nn.Module,
        specialists: Sequence[Specialist],
        *,
        classes: int,
        most_probable: int = 1,
        direction: Direction = "KL(p, q)",
        tolerance: float = TOLERANCE,
    ) -> None:
        """Put them together."""
        super().__init__()
        check_groups([each.classes for each in specialists], classes)
        check_positive(most_probable=most_probable, tolerance=tolerance)
        if most_probable > classes:
            raise AttarError(f"expected most_probable of {classes} at most, got {most_probable}")
        self.trunk, self.generalist = trunk, generalist
        self.specialists = nn.ModuleList(each.network for each in specialists)
        self.most_probable, self.direction, self.tolerance = most_probable, direction, tolerance
        known = torch.zeros(classes, len(specialists), dtype=torch.bool)
        for place, each in enumerate(specialists):
            known[each.classes, place] = True
        oversampling = torch.tensor([each.oversampling for each in specialists]).double()
        self.register_buffer("known", known)
        self.register_buffer("oversampling", oversampling)
        self.known: Bool[Tensor, "classes specialists"]
        self.oversampling: Float[Tensor, " specialists"]
        self.eval()

    def forward(self, inputs: Shaped[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """Return log q."""
        return self.answer(self.trunk(inputs)).log_probabilities

    @torch.no_grad()
    def answer(self, features: Shaped[Tensor, "batch *shape"]) -> Combination:
        """Combine what generalist and active specialists say of features."""
        return self.combine(self.generalist(features), features)

    @torch.no_grad()
    def combine(
        self,
        generalist_logits: Float[Tensor, "batch classes"],
        features: Shaped[Tensor, "batch *shape"],
    ) -> Combination:
        """Combine a generalist's logits with what the active specialists say of features."""
        active = self.choose(generalist_logits)
        answers = []
        for place in active.any(dim=0).nonzero().squeeze(1).tolist():
            rows = active[:, place].nonzero().squeeze(1)
            p = self.ask(place, features[rows], generalist_logits[rows]).double().softmax(dim=1)
            answers.append(SpecialistAnswer(self.classes_of(place), rows, p))
        return combine_unchecked(
            generalist_logits,
            answers,
            direction=self.direction,
            tolerance=self.tolerance,
            most_steps=MOST_STEPS,
        )

    def choose(
        self, generalist_logits: Float[Tensor, "batch classes"]
    ) -> Bool[Tensor, "batch specialists"]:
        """Tell which specialists are active for each example."""
        chosen = generalist_logits.topk(self.most_probable, dim=1).indices  # [batch, n]
        return self.known[chosen].any(dim=1)

    @torch.no_grad()
    def ask(
        self,
        place: int,
        features: Shaped[Tensor, "batch *shape"],
        generalist_logits: Float[Tensor, "batch classes"],
    ) -> Float[Tensor, "batch outputs"]:
        """Return a specialist's logits, the dustbin corrected.

        Args:
            place: Which specialist.
            features: Of the examples.
            generalist_logits: Of these examples.
        """
        outputs: Tensor = self.specialists[place](features)
        log_others = log_sum_others(generalist_logits, self.classes_of(place))
        logits = raise_dustbin(outputs, log_others)
        return correct_dustbin(logits, oversampling=self.oversampling[place].item())

    def classes_of(self, place: int) -> Int64[Tensor, " special"]:
        """Return a specialist's classes, ascending."""
        return self.known[:, place].nonzero().squeeze(1)

    def extra_repr(self) -> str:
        """Say what decides the answers beside weights and buffers."""
        return f"most_probable={self.most_probable}, direction={self.direction!r}"

    def __len__(self) -> int:
        return len(self.specialists)
