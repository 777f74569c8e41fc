"""Points and checks of derivatives that tests of primitives, layers and models share."""

import numpy as np
from hypothesis import strategies as st

import dbp.autodiff as ad
from dbp.autodiff import primitives as p

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def numbers(shape, seed=0):
    """Return numbers at least 0.05 apart from each other and from zero, so that no kink is near."""
    size = int(np.prod(shape))
    order = np.random.default_rng(seed).permutation(size)
    return ((order + 1) * 0.07 * np.where(order % 2, 1, -1)).reshape(shape)


def smooth_gradient(function):
    """Return a smooth scalar of the function's gradient; its derivatives are of second order."""

    def number(*leaves):
        tensors = [x if isinstance(x, ad.Tensor) else ad.Tensor(x) for x in leaves]
        output = p.sum_(p.sin(function(*tensors)))
        gradients = ad.pullback(output, np.ones((), output.dtype), tensors, record=True)
        parts = [p.sum_(g * (g + 1.0)) for g in gradients if g is not None]
        return sum(parts[1:], start=parts[0]) if parts else p.sum_(0.0 * tensors[0])

    return number


def check_second_order(function, *points):
    """Check second derivatives against differences; in float32 only their type and precision."""
    number = smooth_gradient(function)
    ad.check_derivatives(number, *points, tolerance=1e-5)
    every = tuple(range(len(points)))
    exact = ad.gradient(number, by=every)(*points)
    single = ad.gradient(number, by=every)(*(x.astype(np.float32) for x in points))
    for g, expected in zip(single, exact, strict=True):
        assert (g.dtype, expected.dtype) == (np.float32, np.float64)
        assert g.shape == expected.shape
        np.testing.assert_allclose(g, expected, rtol=1e-3, atol=1e-3 * max(1, np.abs(expected).max(initial=0)))


@st.composite
def broadcasting_pairs(draw):
    shape = draw(SHAPES)
    other = tuple(draw(st.sampled_from([1, n])) for n in shape[draw(st.integers(0, len(shape))) :])
    return (shape, other) if draw(st.booleans()) else (other, shape)
