"""Images as PNG in data URIs, so that a page holds them itself."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from dbp.types import Array

LEAST_SIDE, MOST_SIDE, MOST_RATIO = 6, 512, 4  # of what passes for an image
SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of channels
CHANNELS = (1, 3, 4)


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return height, width and channels if inputs of this shape are images; None if they are not."""
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] not in CHANNELS:
        return None
    height, width, channels = shape
    sides = sorted((height, width))
    is_image = sides[0] >= LEAST_SIDE and sides[1] <= min(MOST_SIDE, MOST_RATIO * sides[0])
    return (height, width, channels) if is_image else None


def data_uri(image: Array, least: float, most: float) -> str:
    """Return an image as the URI of a PNG.

    Args:
        image: (height, width, channels).
        least: the number that is drawn black.
        most: the number that is drawn white.
    """
    scaled = (np.nan_to_num(np.asarray(image, np.float64)) - least) / (most - least or 1.0)
    pixels = np.clip(np.rint(scaled * 255), 0, 255).astype(np.uint8)
    return f"data:image/png;base64,{base64.b64encode(_png(pixels)).decode()}"


def _png(pixels: Array) -> bytes:
    """Return 8-bit pixels (height, width, channels) as a PNG file."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # the first byte of a row: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
