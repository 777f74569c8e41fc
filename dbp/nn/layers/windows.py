"""Settings of windows that slide, as users give them: one number or one per axis, padding by name or number."""

from __future__ import annotations

from typing import Literal

from dbp.autodiff import Window
from dbp.errors import UserError, unknown
from dbp.nn.layers.layer import at_least

Sizes = int | tuple[int, int]
Padding = int | str  # "valid" (none), "same" (as many positions as the image has places, by the stride), or a number
PADDINGS = ("valid", "same")


def pair(name: str, value: Sizes, axes: Literal[1, 2] = 2, single: int = 1) -> tuple[int, int]:
    """A setting for both axes; for one axis the first is `single`."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if axes == 1:
        if not isinstance(value, int):
            raise UserError(f"{name} must be one whole number, but is {value!r}")
        both = (single, value)
    if len(both) != 2 or not all(isinstance(n, int) for n in both):
        raise UserError(f"{name} must be a whole number or two, but is {value!r}")
    at_least(name, min(both), 0 if single == 0 else 1)
    return both[0], both[1]


def check_padding(padding: Padding) -> None:
    """UserError for padding that there is not."""
    if isinstance(padding, str):
        if padding not in PADDINGS:
            raise unknown("padding", padding, PADDINGS)
    else:
        at_least("padding", padding, 0)


def window_on(
    image: tuple[int, int],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int] = (1, 1),
    axes: Literal[1, 2] = 2,
) -> Window:
    """The window for images of this height and width."""
    if padding == "same":
        pads = [_same(n, k, s, d) for n, k, s, d in zip(image, size, stride, dilation, strict=True)]
    else:
        each = 0 if padding == "valid" else int(padding)
        pads = [(0, 0) if axes == 1 else (each, each), (each, each)]
    return Window(size, stride, (pads[0], pads[1]), dilation)


def _same(length: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after, so that there are length / stride positions, rounded up; an odd one comes after."""
    total = max(0, (-(-length // stride) - 1) * stride + dilation * (size - 1) + 1 - length)
    return total // 2, total - total // 2
