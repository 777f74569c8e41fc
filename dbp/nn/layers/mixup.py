"""Mixup: each example mixed with another one of its shard, in training only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import Value, array_of, take
from dbp.checks import check_positive
from dbp.errors import UserError
from dbp.nn.mixture import Mixture
from dbp.nn.scope import Scope


@dataclass(frozen=True)
class Mixup:
    """Mixing of each example with another one of its shard in training (Zhang et al. 2018).

    Inputs become share * x + (1 - share) * x of the partner, and the losses for both targets count with the same
    shares. The share is drawn from Beta(alpha, alpha), once for a shard; partners are a permutation of the examples
    whose weight is not 0, so that the sum of all weights stays as it is.

    Args:
        alpha: near 0 for shares near 0 or 1; 1 for all shares alike.
    """

    kind: ClassVar[str] = "mixup"
    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_positive(alpha=self.alpha)

    def __call__(self, scope: Scope, x: Value) -> Value:
        """Return outputs of the inputs' shape; UserError if positions have weights of their own."""
        if not scope.training:
            return x
        weights = scope.example_weights
        if weights is not None and weights.ndim > 1:
            raise UserError(
                f"cannot mix examples whose positions have weights of their own, here {weights.shape[1:]} each; leave "
                "mixup out, or give each example one weight"
            )
        generator, partners = scope.generator(), np.arange(len(x))
        share = float(generator.beta(self.alpha, self.alpha))
        counted = partners if weights is None else np.flatnonzero(weights)
        partners[counted] = generator.permutation(counted)
        scope.mix(Mixture(partners, share))
        dtype = array_of(x).dtype.type
        return x * dtype(share) + take(x, index=partners) * dtype(1 - share)
