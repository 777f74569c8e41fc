"""The sum of an array over all that compute the same with parts of the examples, which any of them may depend on."""

from __future__ import annotations

from dbp.autodiff.tensor import Primitive

# An option `total` returns the sum over all parts, given the array of the one that calls it; all must call it at the
# same time. The transpose is the same sum: what one part adds is used by all, so its cotangent is the sum of theirs.
allreduce: Primitive = Primitive(
    "allreduce",
    lambda x, total: total(x),
    reverse=[lambda g, y, x, total: allreduce(g, total=total)],
    forward=[lambda t, y, x, total: allreduce(t, total=total)],
)
