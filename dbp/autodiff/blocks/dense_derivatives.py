"""Derivatives of a dense layer that are differentiated again, as those in the loss of a physics-informed network are.

They are composed of primitives, as those of the specification are. But they take the derivative of the activation from
the layer's output, so that the layer is not computed again for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from dbp.autodiff.blocks.activations import FUSED
from dbp.autodiff.blocks.block import RecordedRules
from dbp.autodiff.primitives import broadcast_to, matmul, reshape, sum_, transpose
from dbp.autodiff.primitives.shapes import rows_of
from dbp.autodiff.tensor import Rule, Value


def _rule(activation: str, rules: str) -> Rule:
    """Return the rule "reverse" or "forward" of an activation whose derivative follows from its output."""
    (rule,) = getattr(FUSED[activation].specification, rules)
    return cast(Rule, rule)


def _follows_from_output(activation: str) -> bool:
    """Return True if the derivative of an activation, or of none, follows from its output."""
    return activation not in FUSED or FUSED[activation].slope_of_output is not None


def _pull(
    g: Value, y: Value, inputs: Sequence[Value], wanted: Sequence[bool], activation: str
) -> list[Value | None] | None:
    if not _follows_from_output(activation):
        return None
    (x, w, _b), g = inputs, rows_of(g)
    if activation in FUSED:
        g = _rule(activation, "reverse")(g, rows_of(y), None)
    return [
        reshape(matmul(g, transpose(w)), shape=np.shape(x)) if wanted[0] else None,
        matmul(transpose(rows_of(x)), g) if wanted[1] else None,
        sum_(g, axis=0) if wanted[2] else None,
    ]


def _push(tangents: Sequence[Value | None], y: Value, inputs: Sequence[Value], activation: str) -> Value | None:
    if not _follows_from_output(activation):
        return None
    (tx, tw, tb), (x, w, _b), rows = tangents, inputs, rows_of(y)
    parts = [] if tx is None else [matmul(rows_of(tx), w)]
    parts += [] if tw is None else [matmul(rows_of(x), tw)]
    parts += [] if tb is None else [broadcast_to(tb, shape=np.shape(rows))]
    t = parts[0]
    for part in parts[1:]:
        t = t + part
    if activation in FUSED:
        t = _rule(activation, "forward")(t, rows, None)
    return t if np.ndim(y) == 2 else reshape(t, shape=np.shape(y))


DENSE_RULES = RecordedRules(_pull, _push)
