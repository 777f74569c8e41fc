"""Sliding windows as users give them: one number or one per axis, padding by name or number."""

from __future__ import annotations

from typing import Any, Literal

from dbp.autodiff import Window
from dbp.checks import check_integer, is_integer
from dbp.errors import UserError, unknown

Sizes = int | tuple[int, int]
Padding = int | str  # "valid" (none), "same" (length / stride positions, rounded up), or a number of zeros on each side
PADDINGS = ("valid", "same")


def pair(value: Sizes, axes: Literal[1, 2] = 2) -> tuple[int, int]:
    """Return a setting as (down, across); along a sequence (axes=1) down is 1."""
    down, across = (value, value) if isinstance(value, int) else value
    return (1, across) if axes == 1 else (down, across)


def check_sizes(layer: Any, *names: str, axes: Literal[1, 2] = 2, least: int = 1) -> None:
    """Convert settings of a layer to one int, or one per axis; UserError unless they are whole numbers >= least."""
    for name in names:
        value = getattr(layer, name)
        if axes == 1 or is_integer(value):
            if not is_integer(value):
                raise UserError(f"{name} must be one whole number, but is {value!r}")
            object.__setattr__(layer, name, check_integer(name, value, least))
        elif isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_integer, value)):
            object.__setattr__(layer, name, tuple(check_integer(name, number, least) for number in value))
        else:
            raise UserError(f"{name} must be a whole number or two, but is {value!r}")


def check_padding(padding: Padding) -> None:
    """Raise UserError unless padding is a known name or a whole number from 0 on."""
    if isinstance(padding, str):
        if padding not in PADDINGS:
            raise unknown("padding", padding, PADDINGS)
    else:
        check_integer("padding", padding, 0)


def window_on(
    image: tuple[int, int],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
    axes: Literal[1, 2] = 2,
) -> Window:
    """Return the window for images (height, width); UserError, naming what fits, if it is larger than the image."""
    if padding == "same":
        pads = [_same(n, k, s, d) for n, k, s, d in zip(image, size, stride, dilation, strict=True)]
    else:
        each = 0 if padding == "valid" else int(padding)
        pads = [(0, 0) if axes == 1 else (each, each), (each, each)]
    window = Window(size, stride, (pads[0], pads[1]), dilation)
    _check_fit(window, image, axes)
    return window


def _check_fit(window: Window, image: tuple[int, int], axes: Literal[1, 2]) -> None:
    down, across = ((n + sum(p) - 1) // d + 1 for n, p, d in zip(image, window.padding, window.dilation, strict=True))
    if down >= window.size[0] and across >= window.size[1]:
        return
    spread = f" with dilation {_short(window.dilation, axes)}" if max(window.dilation) > 1 else ""
    remedy = f"size must be at most {_short((down, across), axes)}, or padding 'same'"
    raise UserError(
        f"a window of size {_short(window.size, axes)}{spread} does not fit its inputs of "
        f"{f'length {image[1]}' if axes == 1 else f'{image[0]} x {image[1]}'}; "
        f"{remedy if min(image) else 'there is nothing in them'}"
    )


def _short(both: tuple[int, int], axes: Literal[1, 2]) -> str:
    """Return a pair as text, or as one number if that says it all."""
    return str(both[1] if axes == 1 or both[0] == both[1] else both)


def _same(length: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the zeros before and after for length / stride positions, rounded up; an odd one comes after."""
    total = max(0, (-(-length // stride) - 1) * stride + dilation * (size - 1) + 1 - length)
    return total // 2, total - total // 2
