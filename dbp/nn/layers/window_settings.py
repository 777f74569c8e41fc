"""Sliding windows as users give them: one number or one per axis, padding by name or number.

A window along sequences is one over images of height 1, so its size, stride and dilation begin with 1.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

from dbp.autodiff import Window
from dbp.checks import check_integer, is_integer
from dbp.errors import UserError, unknown

Sizes = int | tuple[int, int]
Sizes3d = int | tuple[int, int, int]
Lengths = tuple[int, ...]
Axes = Literal[1, 2, 3]  # of sequences, images and volumes
Padding = int | str  # "valid" (none), "same" (length / stride positions, rounded up), or a number of zeros on each side
PADDINGS = ("valid", "same")
CAUSAL = "causal"  # zeros before a sequence alone, so that no position sees a later one
COUNTS = {2: "two", 3: "three"}
WINDOWS = 256  # that are kept, as a step of training asks for those of the step before


def per_axis(value: int | Lengths, axes: Axes = 2, of_height: int = 1) -> Lengths:
    """Return a setting as one number for each axis; that of the height of their images comes first for sequences."""
    lengths = (value,) * axes if isinstance(value, int) else tuple(value)
    return (of_height, *lengths[-1:]) if axes == 1 else lengths


def check_sizes(layer: Any, *names: str, axes: Axes = 2, least: int = 1) -> None:
    """Convert settings of a layer to one int, or one per axis; UserError unless they are whole numbers >= least."""
    for name in names:
        value = getattr(layer, name)
        if axes == 1 or is_integer(value):
            if not is_integer(value):
                raise UserError(f"{name} must be one whole number, but is {value!r}")
            object.__setattr__(layer, name, check_integer(name, value, least))
        elif isinstance(value, (list, tuple)) and len(value) == axes and all(map(is_integer, value)):
            object.__setattr__(layer, name, tuple(check_integer(name, number, least) for number in value))
        else:
            raise UserError(f"{name} must be a whole number or {COUNTS[axes]}, but is {value!r}")


def check_padding(padding: Padding, names: tuple[str, ...] = PADDINGS) -> None:
    """Raise UserError unless padding is one of the names or a whole number from 0 on."""
    if not isinstance(padding, str):
        check_integer("padding", padding, 0)
    elif padding == CAUSAL and CAUSAL not in names:
        raise UserError(
            "padding 'causal' is for conv1d alone, whose positions have an order; choose 'same' or a number"
        )
    elif padding not in names:
        raise unknown("padding", padding, names)


@functools.lru_cache(WINDOWS)
def window_on(
    image: Lengths,
    size: Lengths,
    stride: Lengths,
    padding: Padding,
    dilation: Lengths | None = None,
    axes: Axes = 2,
) -> Window:
    """Return the window for images of these lengths; UserError, naming what fits, if it is larger than the image."""
    dilation = dilation or (1,) * len(size)
    if padding == "same":
        pads = [_same(n, k, s, d) for n, k, s, d in zip(image, size, stride, dilation, strict=True)]
    elif padding == CAUSAL:
        pads = [(d * (k - 1), 0) for k, d in zip(size, dilation, strict=True)]
    else:
        each = 0 if padding == "valid" else int(padding)
        pads = [(each, each)] * len(size)
        if axes == 1:
            pads[0] = 0, 0
    window = Window(size, stride, tuple(pads), dilation)
    _check_fit(window, image, axes)
    return window


def _check_fit(window: Window, image: Lengths, axes: Axes) -> None:
    most = tuple((n + sum(p) - 1) // d + 1 for n, p, d in zip(image, window.padding, window.dilation, strict=True))
    if all(n >= k for n, k in zip(most, window.size, strict=True)):
        return
    spread = f" with dilation {_short(window.dilation, axes)}" if max(window.dilation) > 1 else ""
    remedy = f"size must be at most {_short(most, axes)}, or padding 'same'"
    raise UserError(
        f"a window of size {_short(window.size, axes)}{spread} does not fit its inputs of "
        f"{f'length {image[1]}' if axes == 1 else ' x '.join(map(str, image))}; "
        f"{remedy if min(image) else 'there is nothing in them'}"
    )


def _short(lengths: Lengths, axes: Axes) -> str:
    """Return numbers as text, or as one number if that says it all."""
    return str(lengths[-1] if axes == 1 or len(set(lengths)) == 1 else lengths)


def _same(length: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the zeros before and after for length / stride positions, rounded up; an odd one comes after."""
    total = max(0, (-(-length // stride) - 1) * stride + dilation * (size - 1) + 1 - length)
    return total // 2, total - total // 2
