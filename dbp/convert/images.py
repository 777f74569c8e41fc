"""Read a folder of images, whose subfolders are classes, as one array of bytes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dbp.convert.content import Block, Content, rows_per_block
from dbp.data.hdf5 import HDF5Dataset
from dbp.data.meaning import listed
from dbp.data.row_names import FILES
from dbp.errors import UserError
from dbp.files import reading_from
from dbp.library import library
from dbp.types import Array

GRAY, COLOR = ("gray",), ("red", "green", "blue")  # names of channels
TURNED = range(5, 9)  # values of the tag Orientation by which width and height are exchanged
ORIENTATION = 0x0112
ENDINGS = {
    ".avif",
    ".bmp",
    ".gif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
}
DEEP_SCALE = 1 / 65535  # of images with 16 bits per number


@dataclass(frozen=True)
class ImageOptions:
    """What the user says of images.

    Args:
        size: their width and height; None if all have the same.
        grayscale: whether colors become shades of gray.
        like: an earlier data file of images, which have the same size and channels.
    """

    size: tuple[int, int] | None = None
    grayscale: bool = False
    like: str | None = None


class ImageHead(NamedTuple):
    """The size of an image as it is shown, and its mode in Pillow's terms."""

    size: tuple[int, int]
    mode: str

    @property
    def is_deep(self) -> bool:
        """Return True if it has one number of 16 bits for each pixel."""
        return self.mode.startswith("I;16")

    @property
    def is_gray(self) -> bool:
        """Return True if it has no colors."""
        return self.is_deep or self.mode in ("1", "L", "LA", "La")


def from_images(folder: Path, options: ImageOptions) -> Content:
    """Return the data set in a folder: inputs (examples, height, width, channels), the folders' names as classes.

    Images that lie in the folder itself have no targets. Sizes that differ from the one asked for are scaled, in
    proportion, until the image covers it; what juts out is cut off on both sides. Transparent parts become white.

    Args:
        folder: holds images, or a folder of images for each class.
        options: what they become.

    Raises:
        UserError: there are no images, one cannot be read, or they have different sizes and none is given.
    """
    pillow = library("PIL.Image", "a folder of images", "pillow")
    paths, classes, notes = _found(folder)
    heads = [_head(pillow, path) for path in paths]
    size, is_gray, is_deep = _form(paths, heads, options)
    kind = np.dtype(np.uint16 if is_deep else np.uint8)
    names = GRAY if is_gray else COLOR
    row_bytes = size[0] * size[1] * len(names) * kind.itemsize
    labels = None if classes is None else [classes.index(path.relative_to(folder).parts[0]) for path in paths]
    load = Loader(pillow, size, is_gray, kind)
    blocks = _blocks(folder, paths, labels, load, rows_per_block(row_bytes))
    attributes: dict[str, dict[str, Any]] = {"inputs": {"names": names} | ({"scale": DEEP_SCALE} if is_deep else {})}
    if classes is not None and labels is not None:
        attributes["targets"] = {"classes": classes}
        counts = np.bincount(labels, minlength=len(classes))
        notes.insert(0, listed([f"{name} {count:,}" for name, count in zip(classes, counts, strict=True)]))
    files = [*paths, *([] if options.like is None else [Path(options.like)])]
    return Content(blocks, len(paths), attributes, notes, files)


def _found(folder: Path) -> tuple[list[Path], list[str] | None, list[str]]:
    """Return the images in a folder, the names of the classes (None if there are none), and notes."""
    with reading_from(folder):
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder; name one with images, or with a folder of images for each class"
            )
        every = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    images = [path for path in every if path.suffix.lower() in ENDINGS]
    in_folders = [path for path in images if path.parent != folder]
    taken = in_folders or images
    if not taken:
        raise UserError(f"{folder}: holds no images (files that end in .png, .jpg and so on)")
    rest = sorted({*every} - {*taken})
    notes = [f"left out, not images of a class ({len(rest):,}): {listed([path.name for path in rest])}"]
    classes = sorted({path.relative_to(folder).parts[0] for path in in_folders})
    with reading_from(folder):
        folders = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    empty = [name for name in folders if name not in classes]
    no_class = f"no classes, as these folders hold no images: {listed(empty)}; class numbers count without them"
    return taken, classes or None, notes * bool(rest) + [no_class] * bool(classes and empty)


@contextmanager
def _reading_image(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags, which do not matter
            yield
    except OSError as error:
        if error.errno is not None:  # from the system; those of Pillow have none
            with reading_from(path):
                raise
        raise _unreadable(path, error) from None
    except Exception as error:  # Pillow raises almost anything for damaged files
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"{path} cannot be read as an image ({reason}); remove or repair it")


def _head(pillow: Any, path: Path) -> ImageHead:
    with _reading_image(path), pillow.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION) in TURNED
        return ImageHead((height, width) if turned else (width, height), image.mode)


class Form(NamedTuple):
    """What all images have in common in the data file."""

    size: tuple[int, int]
    is_gray: bool
    is_deep: bool


def _form(paths: Sequence[Path], heads: Sequence[ImageHead], options: ImageOptions) -> Form:
    is_deep = all(head.is_deep for head in heads)
    if not is_deep and (deep := next((i for i, head in enumerate(heads) if head.is_deep), None)) is not None:
        raise UserError(f"{paths[deep]} has 16 bits per number, but others have 8; convert it to the same")
    if options.like is not None:
        height, width, channels = _shape_of(options.like)
        return Form((width, height), channels == 1, is_deep)
    size = options.size or heads[0].size
    for path, head in zip(paths, heads, strict=True):
        if options.size is None and head.size != size:
            raise UserError(
                f"{path} is of {head.size[0]} x {head.size[1]} pixels, but {paths[0]} of {size[0]} x {size[1]}; say "
                f"--size {size[0]}x{size[1]} to scale all to this size"
            )
    return Form(size, options.grayscale or all(head.is_gray for head in heads), is_deep)


def _shape_of(like: str) -> tuple[int, int, int]:
    """Return the shape of an image in a data file; raise UserError if it has none."""
    shape = HDF5Dataset(like, targets=None).input_shape
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise UserError(f"{like}: an example has shape {shape}, so that it is no image (height, width, channels)")
    return shape[0], shape[1], shape[2]


class Loader:
    """Reads an image as an array.

    Args:
        pillow: the module PIL.Image.
        size: width and height of the array.
        is_gray: whether it has one channel.
        kind: the type of its numbers.
    """

    def __init__(self, pillow: Any, size: tuple[int, int], is_gray: bool, kind: np.dtype[Any]):
        self._pillow, self._size, self._is_gray, self._kind = pillow, size, is_gray, kind
        self._operations = library("PIL.ImageOps", "a folder of images", "pillow")

    def __call__(self, path: Path) -> Array:
        """Return the numbers (height, width, channels)."""
        with _reading_image(path), self._pillow.open(path) as image:
            shown = self._operations.exif_transpose(image)
            if self._kind == np.uint8:
                shown = self._flat(shown).convert("L" if self._is_gray else "RGB")
            if shown.size != self._size:
                shown = self._operations.fit(shown, self._size, self._pillow.Resampling.BILINEAR)
            return np.asarray(shown).astype(self._kind).reshape(self._size[1], self._size[0], -1)

    def _flat(self, image: Any) -> Any:
        """Return an image on white, if parts of it are transparent."""
        if not image.has_transparency_data:
            return image
        image = image.convert("RGBA")
        white = self._pillow.new("RGBA", image.size, "white")
        return self._pillow.alpha_composite(white, image)


def _blocks(
    folder: Path, paths: Sequence[Path], labels: Sequence[int] | None, load: Loader, rows: int
) -> Iterator[Block]:
    names = np.array([os.fsencode(path.relative_to(folder)).decode(errors="replace").encode() for path in paths])
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:  # Pillow lets others run while it unpacks
        for first in range(0, len(paths), rows):
            images = list(threads.map(load, paths[first : first + rows]))
            block = {"inputs": np.stack(images), FILES: names[first : first + rows]}
            if labels is not None:
                block["targets"] = np.array(labels[first : first + rows], np.int64)
            yield block
