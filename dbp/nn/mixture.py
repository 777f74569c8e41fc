"""How a layer has mixed the examples of a shard, by which their losses are mixed too."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dbp.types import Array


class Mixture(NamedTuple):
    """Each example of a shard is `share` of itself and 1 - share of its partner.

    Args:
        partners: the number of each example's partner, a permutation.
        share: of the example itself, from 0 to 1.
    """

    partners: Array
    share: float

    def of(self, own: Any, partners: Any, example_weights: Array | None) -> Any:
        """Return losses or metrics of mixed examples.

        A loss for the partner's target counts with the weight of the partner: it is divided by the weight of the
        example, with which the sum over examples multiplies it.

        Args:
            own: those for the targets of the examples, (examples, ...).
            partners: those for the targets of the partners.
            example_weights: (examples,); None if all are 1.
        """
        dtype = own.dtype.type
        if example_weights is None:
            return own * dtype(self.share) + partners * dtype(1 - self.share)
        given = example_weights[self.partners]
        ratios = np.divide(given, example_weights, out=np.ones_like(given), where=example_weights != 0)
        ratios = ratios.reshape(-1, *[1] * (own.ndim - 1)).astype(own.dtype)
        return own * dtype(self.share) + partners * (ratios * dtype(1 - self.share))
