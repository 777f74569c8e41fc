"""The primitives: each a single entry with its value, its reverse rules and its forward rules.

In the rules, g is the cotangent of the output, t the tangent of an input, y the output, and a, b, c or x the inputs.
Rules use primitives and operators only, so that they can be differentiated themselves. A primitive of any number of
inputs has rules that take the number of the input first.

To add a primitive:

1. Write its `Primitive(...)` in the module of its family: one reverse and one forward rule per input.
2. List it here, and in dbp/autodiff/__init__.py if users may call it.
3. Add it to CASES in tests/autodiff/test_primitives.py, which compares its derivatives with differences.

If it composes primitives that exist, write a function, such as `mean`, instead: its derivatives follow by themselves.
To save memory traffic, make the composition a block (dbp/autodiff/blocks/).
"""

from dbp.autodiff.primitives.allreduce import allreduce
from dbp.autodiff.primitives.arithmetic import (
    add,
    clip,
    divide,
    is_equal,
    is_positive,
    log,
    matmul,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sign,
    subtract,
    where,
)
from dbp.autodiff.primitives.convolution import convolve, convolve_transposed, convolve_weights
from dbp.autodiff.primitives.einsum import einsum
from dbp.autodiff.primitives.elementwise import (
    abs_,
    cos,
    elu,
    exp,
    expm1,
    gate,
    gelu,
    leaky_relu,
    log1p,
    relu,
    sigmoid,
    silu,
    sin,
    softplus,
    sqrt,
    square,
    tanh,
)
from dbp.autodiff.primitives.fourier import irfft, rfft
from dbp.autodiff.primitives.pooling import average_pool, max_pool, tap_gather, tap_scatter, window_spread, window_sum
from dbp.autodiff.primitives.reductions import (
    log_softmax,
    logsumexp,
    max_,
    mean,
    softmax,
    variance,
)
from dbp.autodiff.primitives.shapes import (
    broadcast_to,
    concatenate,
    identity,
    pad,
    pick,
    reshape,
    scatter_add,
    scatter_rows,
    split,
    stack,
    sum_,
    take,
    transpose,
)
from dbp.autodiff.primitives.windows import Window

__all__ = [
    "Window",
    "abs_",
    "add",
    "allreduce",
    "average_pool",
    "broadcast_to",
    "clip",
    "concatenate",
    "convolve",
    "convolve_transposed",
    "convolve_weights",
    "cos",
    "divide",
    "einsum",
    "elu",
    "exp",
    "expm1",
    "gate",
    "gelu",
    "identity",
    "irfft",
    "is_equal",
    "is_positive",
    "leaky_relu",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max_",
    "max_pool",
    "maximum",
    "mean",
    "minimum",
    "multiply",
    "negative",
    "pad",
    "pick",
    "power",
    "relu",
    "reshape",
    "rfft",
    "scatter_add",
    "scatter_rows",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "square",
    "stack",
    "subtract",
    "sum_",
    "take",
    "tanh",
    "tap_gather",
    "tap_scatter",
    "transpose",
    "variance",
    "where",
    "window_spread",
    "window_sum",
]
