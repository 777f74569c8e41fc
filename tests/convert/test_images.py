"""Folders of images, which become arrays of bytes with class names and file names."""

import sys
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given, settings

from dbp.convert import content
from dbp.convert.images import ImageOptions, from_images
from dbp.convert.options import size_in
from dbp.errors import StorageError, UserError
from tests.convert.files import changed, converted, write

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(0)


def save(path, shape=(4, 6, 3), mode=None, dtype=np.uint8, **options):
    """Write an image of random pixels and return its numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two classes, and the pixels of its images."""
    pixels = [save(tmp_path / "all" / name) for name in ("ant/1.png", "ant/deep/2.PNG", "bee/ä.png")]
    (tmp_path / "all" / "ant" / "notes.txt").write_text("x")
    (tmp_path / "all" / "ant" / ".hidden.png").write_text("x")
    return tmp_path / "all", pixels


def test_folders_are_classes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(content, "BLOCK_BYTES", 2 * 72)
    path, pixels = folder
    found = from_images(path, ImageOptions())
    rows, meaning = converted(tmp_path, found)
    np.testing.assert_array_equal(rows.inputs, pixels)
    assert rows.inputs.dtype == np.uint8
    assert (meaning["inputs"].names, meaning["inputs"].scale) == (("red", "green", "blue"), 1 / 255)
    assert (rows.targets.tolist(), meaning["targets"].classes) == ([0, 0, 1], ("ant", "bee"))
    assert found.notes == ["ant 2, bee 1", "left out, not images of a class (1): notes.txt"]
    with h5py.File(tmp_path / "converted.h5") as file:
        assert file["files"].asstr()[:].tolist() == ["ant/1.png", "ant/deep/2.PNG", "bee/ä.png"]


def test_images_without_folders_have_no_targets(tmp_path):
    pixels = save(tmp_path / "in" / "1.png", (4, 6))
    rows, meaning = converted(tmp_path, from_images(tmp_path / "in", ImageOptions()))
    np.testing.assert_array_equal(rows.inputs, pixels[None, :, :, None])
    assert (rows.targets, meaning["inputs"].names) == (None, ("gray",))


def test_images_of_other_kinds_are_brought_to_one(tmp_path):
    save(tmp_path / "in" / "a" / "1.png", (8, 8))
    save(tmp_path / "in" / "a" / "2.gif", (8, 8, 3), mode="P")
    save(tmp_path / "in" / "b" / "3.jpg", (8, 16, 3))
    transparent = np.zeros((8, 8, 4), np.uint8)
    Image.fromarray(transparent).save(tmp_path / "in" / "b" / "4.png")
    with pytest.raises(UserError, match=r"3\.jpg is of 16 x 8 pixels, but .*1\.png of 8 x 8; say --size 8x8"):
        from_images(tmp_path / "in", ImageOptions())
    rows, _ = converted(tmp_path, from_images(tmp_path / "in", ImageOptions((4, 2))))
    assert rows.inputs.shape == (4, 2, 4, 3)
    assert (rows.inputs[3] == 255).all()  # what is transparent is white
    write(tmp_path / "gray.h5", from_images(tmp_path / "in", ImageOptions((4, 2), grayscale=True)))
    rows, meaning = converted(tmp_path, from_images(tmp_path / "in", ImageOptions(like=str(tmp_path / "gray.h5"))))
    assert (rows.inputs.shape, meaning["inputs"].names) == ((4, 2, 4, 1), ("gray",))


def test_images_are_scaled_in_proportion_and_turned_as_they_are_shown(tmp_path):
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 4:8] = 200  # the middle
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "in" / "1.png")
    Image.fromarray(pixels).save(tmp_path / "in" / "2.png", exif=exif)
    rows, _ = converted(tmp_path, from_images(tmp_path / "in", ImageOptions((2, 2))))
    assert rows.inputs.shape == (2, 2, 2, 3)
    assert (rows.inputs > 150).all()
    (tmp_path / "in" / "1.png").unlink()
    rows, _ = converted(tmp_path, from_images(tmp_path / "in", ImageOptions()))
    np.testing.assert_array_equal(rows.inputs[0], np.rot90(pixels, -1))


def test_images_of_16_bits(tmp_path):
    pixels = save(tmp_path / "in" / "1.png", (4, 6), dtype=np.uint16)
    rows, meaning = converted(tmp_path, from_images(tmp_path / "in", ImageOptions()))
    np.testing.assert_array_equal(rows.inputs, pixels[None, :, :, None])
    assert (rows.inputs.dtype, meaning["inputs"].scale) == (np.uint16, 1 / 65535)
    rows, _ = converted(tmp_path, from_images(tmp_path / "in", ImageOptions((3, 2))))
    assert rows.inputs.shape == (1, 2, 3, 1)
    save(tmp_path / "in" / "2.png", (4, 6))
    with pytest.raises(UserError, match=r"1\.png has 16 bits per number, but others have 8"):
        from_images(tmp_path / "in", ImageOptions())


def test_what_is_no_folder_of_images_is_refused(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="in: holds no images"):
        from_images(tmp_path / "in", ImageOptions())
    for name in ("none", "x.png"):
        save(tmp_path / "x.png")
        with pytest.raises(UserError, match=f"{name} is not a folder"):
            from_images(tmp_path / name, ImageOptions())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["inputs"] = np.zeros((2, 5))
    save(tmp_path / "in" / "1.png")
    with pytest.raises(UserError, match=r"x\.h5: an example has shape \(5,\), so that it is no image"):
        from_images(tmp_path / "in", ImageOptions(like=str(tmp_path / "x.h5")))
    with pytest.raises(UserError, match=r"1\.png, an input of this command"):
        write(tmp_path / "in" / "1.png", from_images(tmp_path / "in", ImageOptions()), overwrite=True)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UserError, match="a folder of images needs the library pillow; pip install pillow"):
        from_images(tmp_path / "in", ImageOptions())


def test_damaged_images_are_refused_with_a_remedy(tmp_path):
    save(tmp_path / "in" / "1.png", (40, 60, 3))
    whole = (tmp_path / "in" / "1.png").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"some text"):
        (tmp_path / "in" / "1.png").write_bytes(damaged)
        with pytest.raises(
            UserError, match=r"1\.png cannot be read as an image \(.*\); remove or repair it"
        ) as refused:
            write(tmp_path / "x.h5", from_images(tmp_path / "in", ImageOptions()))
        assert not isinstance(refused.value, StorageError)


def test_folders_without_images_are_no_classes(folder):
    path, _ = folder
    for name in ("aardvark", "cat", ".cache"):
        (path / name).mkdir()
    assert from_images(path, ImageOptions()).notes[-1] == (
        "no classes, as these folders hold no images: aardvark, cat; class numbers count without them"
    )


def test_sizes_on_the_command_line():
    assert [size_in(text) for text in ("32", "32x48", "1X2")] == [(32, 32), (32, 48), (1, 2)]
    for text in ("", "x", "0x3", "1x2x3", "-1", "1.5", "99999999"):
        with pytest.raises(UserError, match="--size takes width and height in pixels"):
            size_in(text)


def bytes_of(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / f"1.{kind}"
    save(path, (5, 4, 3))
    return path.read_bytes()


CONTENTS = {}


@settings(max_examples=60)
@given(data=changed(bytes(range(256)) * 2))
@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "tif"])
def test_any_image_is_read_or_refused(tmp_path_factory, kind, data):
    """Change the bytes of an image by those that differ from a given text."""
    if kind not in CONTENTS:
        CONTENTS[kind] = bytes_of(kind, tmp_path_factory)
    original, path = CONTENTS[kind], tmp_path_factory.getbasetemp() / f"any-{kind}" / f"1.{kind}"
    plain = bytes(range(256)) * 2
    damaged = bytes(
        byte if at >= len(data) or data[at] == plain[at % 512] else data[at] for at, byte in enumerate(original)
    )
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damaged[: len(original) * min(len(data), 512) // 512])
    with suppress(UserError):
        write(path.parent.parent / "any-image.h5", from_images(path.parent, ImageOptions()), overwrite=True)
