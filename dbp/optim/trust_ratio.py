"""Trust ratios: a factor on the learning rate of each parameter, in proportion to the norm of its weights.

LARS and LAMB use them to train with very large mini-batches.
"""

from __future__ import annotations

import numpy as np

from dbp.optim.parameter_blocks import ParameterSetting
from dbp.optim.protocols import Vector


def one_group_each(settings: list[ParameterSetting]) -> list[ParameterSetting]:
    """Return the settings with a group of its own for each parameter, numbered from 0."""
    return [setting._replace(group=number) for number, setting in enumerate(settings)]


def trust_ratios(numerators: Vector, denominators: Vector) -> list[float]:
    """Return one quotient per parameter; 1 where the numerator or the denominator is zero.

    Args:
        numerators: one number per parameter, not negative.
        denominators: one number per parameter, not negative.
    """
    defined = (numerators > 0) & (denominators > 0)
    ratios: list[float] = np.divide(numerators, denominators, out=np.ones_like(numerators), where=defined).tolist()
    return ratios
