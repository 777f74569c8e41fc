"""3x3 convolution with stride 1 by Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications.

Lavin and Gray 2016, Fast algorithms for convolutional neural networks: a tile of 6x6 inputs yields 4x4 outputs,
Y = A^T [(G w G^T) * (B^T x B)] A. Summed over channels, the elementwise product becomes 36 matrix products over many
tiles. The gradients are the adjoints of the same three transforms, so one transformed cotangent serves both weights and
input.

The transforms are small matrix products along one axis at a time, so their cost does not depend on the interpolation
points, which are chosen for accuracy. With 0, +-3/4, +-11/8 and infinity the largest error over the largest value,
against float64, is 0.8e-6 to 2.7e-6 for 32 to 256 channels: 4 times that of the direct float32 product on average, 7
times at most, where the usual 0, +-1, +-2 and infinity make 17 and 31.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from dbp.autodiff.fast_convolution.epilogue import Activation
from dbp.autodiff.fast_convolution.winograd_outputs import (
    CotangentsOfMaxima,
    CotangentsOfOutputs,
    InputCotangent,
    Maxima,
    Outputs,
)
from dbp.autodiff.fast_convolution.winograd_tiles import IN, Grid, TransformedTiles, transforms
from dbp.autodiff.products import column_sum
from dbp.autodiff.scratch import buffer
from dbp.blas import SMALL_PRODUCT, prefers_small_products
from dbp.types import Array

Padding = tuple[tuple[int, int], tuple[int, int]]
COLUMNS = 64  # of a part of a product
KERNELS = 1024  # that are transformed in one product


def transformed_weights(w: Array) -> Array:
    """Return G w G^T for every pair of channels (6, 6, C, K)."""
    return _times_kernels(_of_kernels(), w.reshape(9, -1)).reshape(IN, IN, *w.shape[2:])


@functools.cache
def _of_kernels() -> Array:
    """Return the transform of a kernel along both axes at once (36, 9)."""
    g = transforms().kernel
    return np.kron(g, g)


def _times_kernels(matrix: Array, kernels: Array) -> Array:
    """Return the products of a matrix with kernels, of which each is a column."""
    out = np.empty((len(matrix), kernels.shape[1]), kernels.dtype)
    _multiply(matrix.astype(kernels.dtype), kernels, out, KERNELS)
    return out


def _multiply(a: Array, b: Array, out: Array, columns: int = COLUMNS) -> None:
    """Write the products of matrices to `out`, some columns at a time where BLAS would copy the matrices first."""
    (rows, all_columns), inner = out.shape[-2:], a.shape[-1]
    if rows * inner * all_columns > SMALL_PRODUCT and all_columns % columns == 0 and prefers_small_products():
        a = a[..., None, :, :]
        b, out = (x.reshape(*x.shape[:-1], -1, columns).swapaxes(-2, -3) for x in (b, out))
    np.matmul(a, b, out=out)


def forward(
    x: Array,
    w: Array,
    b: Array | None,
    *,
    padding: Padding,
    relu: bool,
    pool: int,
    keep: bool = True,
    added: Array | None = None,
    transformed: Callable[[], Array] | None = None,
) -> tuple[Array, list[Array]]:
    """Return y and the positions of the maxima, in the order of the tiles, as forward of the package does.

    pool must be 0 or 2.
    """
    grid, x, scale = Grid.of(x, w, padding), np.ascontiguousarray(x), max(pool, 1)
    u = transformed_weights(w) if transformed is None else transformed()
    y = np.empty((grid.images, grid.out_height // scale, grid.out_width // scale, grid.outputs), x.dtype)
    saved: list[Array] = []
    inputs, activation = _inputs(grid, x), Activation(b, relu)
    outputs = Maxima(y, grid, saved if keep else None) if pool else Outputs(y, grid, added)
    for images, rows in grid.rounds():
        inputs.load(x[images], rows)
        outputs.begin(images, rows)
        product = buffer("product", (IN, inputs.out.shape[1], grid.outputs), x.dtype)
        for frequency in range(IN):
            _multiply(inputs[frequency], u[frequency], product)
            outputs.add(frequency, product)
        outputs.end(activation)
    return y, saved


def _inputs(grid: Grid, x: Array) -> TransformedTiles:
    """Return the transformed tiles of the inputs, to be loaded."""
    return TransformedTiles("input", transforms().inputs.astype(x.dtype), grid, grid.top, grid.left)


def backward(
    g: Array,
    y: Array,
    saved: list[Array],
    x: Array,
    w: Array,
    *,
    padding: Padding,
    relu: bool,
    pool: int,
    wanted: bool,
    weights: bool = True,
    bias: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Return the cotangents of x (None unless wanted), w and b (zeros unless wanted)."""
    grid, dtype, x = Grid.of(x, w, padding), x.dtype, np.ascontiguousarray(x)
    u = transformed_weights(w.swapaxes(2, 3))  # products with a transposed right side are slower
    dw, db = np.zeros((IN, IN, *w.shape[2:]), dtype), np.zeros(grid.outputs, dtype)
    inputs, image = _inputs(grid, x), InputCotangent(grid, x) if wanted else None
    outputs = CotangentsOfMaxima(grid, saved, dtype) if pool else CotangentsOfOutputs(grid, y if relu else None, dtype)
    part = buffer("part", dw.shape[1:], dtype)
    for images, rows in grid.rounds():
        pixels = outputs.load_round(g, images, rows)
        if bias:
            db += column_sum(pixels)
        if weights:
            inputs.load(x[images], rows)
        if image is not None:
            image.begin(images, rows)
        for frequency in range(IN):
            cotangent = outputs[frequency]
            if weights:
                _multiply(inputs[frequency].swapaxes(1, 2), cotangent, part)
                dw[frequency] += part
            if image is not None:
                _multiply(cotangent, u[frequency], image.product)
                image.add(frequency)
        if image is not None:
            image.end()
    dw = _times_kernels(_of_kernels().T, dw.reshape(IN * IN, -1)).reshape(w.shape)
    return None if image is None else image.dx, dw, db
