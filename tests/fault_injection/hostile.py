"""Checkpoints made to do harm: each function of HOSTILE turns a good checkpoint at a path into a hostile one.

Those made through the list of contents or the attributes are sealed again, as one who knows the format would do.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dbp.checkpoint.format import Entry, digest_of_structure, seal_of

Change = Callable[[Path], None]
HOSTILE: dict[str, Change] = {}
GIANT = 1 << 42  # bytes


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value


def seal(path: Path) -> None:
    """Give a file the seal of its present structure, if its list of contents says where that is."""
    with h5py.File(path) as file:
        text = _plain(file.attrs["contents"])
    try:
        entries = [Entry(name, dtype, tuple(shape), *rest) for name, (dtype, shape, *rest) in json.loads(text).items()]
        places = [entry for entry in entries if 0 <= entry.offset <= path.stat().st_size - entry.size]
        with path.open("rb") as stored:
            digest = digest_of_structure(stored, places)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return
    with path.open("r+b") as stored:
        stored.write(seal_of(digest))


def set_attribute(item: Any, name: str, value: Any) -> None:
    """Replace an attribute; text is stored with a fixed length, as dbp writes it."""
    if isinstance(value, str):
        data = value.encode()
        item.attrs.create(name, np.bytes_(data), dtype=h5py.string_dtype("utf-8", max(1, len(data))))
    else:
        item.attrs.create(name, value)


def listed(file: h5py.File) -> dict[str, list[Any]]:
    """Return the list of contents."""
    return json.loads(file.attrs["contents"])  # type: ignore[no-any-return]


def list_again(file: h5py.File, contents: Any) -> None:
    """Replace the list of contents."""
    set_attribute(file, "contents", contents if isinstance(contents, str) else json.dumps(contents))


def victim(file: h5py.File) -> str:
    """Return the name of an array of weights."""
    return next(name for name in listed(file) if name.startswith("model/") and file[name].ndim == 2)


def inside(name: str, change: Callable[[h5py.File], None], sealed: bool = True) -> None:
    """Register a change made through HDF5."""

    def make(path: Path) -> None:
        with h5py.File(path, "r+", libver=("earliest", "v110")) as file:
            change(file)
        if sealed:
            seal(path)

    HOSTILE[name] = make


def stored(name: str, **storage: Any) -> None:
    """Register a change of how an array is stored; shape and data stay unless given."""

    def change(file: h5py.File) -> None:
        array = victim(file)
        data = file[array][...]
        del file[array]
        if "shape" not in storage and "data" not in storage:
            storage["data"] = data
        file.create_dataset(array, **storage)

    inside(name, change, sealed=False)


def linked(name: str, link: Callable[[h5py.File, str], Any]) -> None:
    """Register a change that replaces an array by a link."""

    def change(file: h5py.File) -> None:
        array = victim(file)
        made = link(file, array)
        del file[array]
        file[array] = made

    inside(name, change, sealed=False)


def contents(name: str, change: Callable[[dict[str, list[Any]], str], Any]) -> None:
    """Register a change of the list of contents, which returns a new list, or text in its place."""
    inside(name, lambda file: list_again(file, change(listed(file), victim(file))))


def described(name: str, **described: Any) -> None:
    """Register a change of an array's dtype, shape or offset in the list of contents."""

    def change(listing: dict[str, list[Any]], array: str) -> Any:
        for key, value in described.items():
            listing[array][("dtype", "shape", "offset").index(key)] = value
        return listing

    contents(name, change)


def attribute(name: str, place: str, key: str, value: Any, sealed: bool = True) -> None:
    """Register a change of an attribute."""
    inside(name, lambda file: set_attribute(file[place], key, value), sealed)


def instead(name: str, make: Callable[[Path], None]) -> None:
    """Register a replacement by something that is no HDF5 file."""

    def change(path: Path) -> None:
        path.unlink()
        make(path)

    HOSTILE[name] = change


# --- links and names ----------------------------------------------------------------------------------

linked("external link", lambda _file, _array: h5py.ExternalLink("/etc/passwd", "/x"))
linked("external link to HDF5", lambda file, array: h5py.ExternalLink(f"{file.filename}.other", array))
linked("soft link that leads nowhere", lambda _file, _array: h5py.SoftLink("/nowhere"))
linked("soft link to itself", lambda _file, array: h5py.SoftLink(f"/{array}"))


def _soft(file: h5py.File, array: str) -> h5py.SoftLink:
    file["elsewhere"] = file[array]
    return h5py.SoftLink("/elsewhere")


linked("soft link", _soft)


def _renamed(name: str) -> Callable[[dict[str, list[Any]], str], Any]:
    return lambda listing, array: {name.format(array) if key == array else key: value for key, value in listing.items()}


for title, pattern in {
    "an empty name": "",
    "a name of a group": "model",
    "a name with ..": "history/../{}",
    "a name with .": "./{}",
    "a name with empty parts": "model//{}",
    "a name from the root": "/{}",
    "a name with zero": "{}\0",
    "a name of many letters": "model/" + "x" * 1_000_000,
    "a name of many parts": "model/" + "a/" * 10_000 + "x",
    "a name of another group": "progress/{}",
}.items():
    contents(title, _renamed(pattern))


# --- how arrays are stored ------------------------------------------------------------------------------

stored("chunks", chunks=True)
stored("a gzip bomb", shape=(1 << 14, 1 << 14), dtype="f4", chunks=(1 << 10, 1 << 14), compression="gzip", fillvalue=0)
stored("4 TiB in chunks that are not there", shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1 << 10, 1 << 10))
stored("a shape whose size overflows", shape=(1 << 32, 1 << 32), dtype="f4", chunks=(1, 1))
stored("external storage", shape=(2, 3), dtype="f4", external=[("/etc/passwd", 0, 24)])
stored("no data space", data=h5py.Empty("f4"))
stored("object references", shape=(3,), dtype=h5py.ref_dtype)
stored("texts of any length", data=["a" * 1000] * 30, dtype=h5py.string_dtype())


def _virtual(file: h5py.File) -> None:
    array = victim(file)
    shape = file[array].shape
    layout = h5py.VirtualLayout(shape=shape, dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=shape)
    del file[array]
    file.create_virtual_dataset(array, layout)


inside("a virtual data set", _virtual, sealed=False)

# --- attributes -----------------------------------------------------------------------------------------

for title, value in {
    "of text": "2",
    "of an array": np.array([2, 2]),
    "of a fraction": 2.5,
    "zero": 0,
    "below zero": -3,
    "of the future": 99,
}.items():
    attribute(f"a version {title}", "/", "version", value, sealed=False)
attribute("a format of a number", "/", "format", 5)
attribute("another format", "/", "format", "keras")
attribute("contents of a number", "/", "contents", 5)
attribute("a config of a number", "/", "config", 5)
attribute("an array as attribute", "progress", "step", np.arange(1000), sealed=False)
attribute("a text of 60 MB as attribute", "provenance", "host", "x" * 60_000_000)
for key, value in {"shards": "4", "step": "5", "epoch": -1, "finished": 1, "best_value": 1, "outcome": 5}.items():
    attribute(f"progress with {key} {value!r}", "progress", key, value)
attribute("no shards at all", "progress", "shards", 0)


def _vlen(file: h5py.File) -> None:
    file["provenance"].attrs["host"] = "of any length"  # as h5py stores a text


def _reference(file: h5py.File) -> None:
    file["provenance"].attrs.create("host", file["model"].ref, dtype=h5py.ref_dtype)


def _many(file: h5py.File) -> None:
    for number in range(3000):
        file["provenance"].attrs[f"a{number}"] = number


inside("a text of any length as attribute", _vlen, sealed=False)
inside("a reference as attribute", _reference, sealed=False)
inside("3,000 attributes", _many)
inside("no progress", lambda file: file.__delitem__("progress"), sealed=False)
inside("a number missing in progress", lambda file: file["progress"].attrs.__delitem__("step"))
inside("no list of contents", lambda file: file.attrs.__delitem__("contents"), sealed=False)

# --- the list of contents -------------------------------------------------------------------------------

contents("a list nested 100,000 deep", lambda _listing, _array: "[" * 100_000)
contents("objects nested 100,000 deep", lambda _listing, _array: '{"a":' * 100_000)
contents("a number of 5,000 digits", lambda listing, array: json.dumps(listing).replace("[", "[" + "1" * 5000 + ",", 1))
contents(
    "a list of 100,000 arrays",
    lambda listing, _array: listing | {f"model/{i}": ["<f4", [0], 0] for i in range(100_000)},
)
contents("no JSON", lambda _listing, _array: "import os")
for value in ("[]", "5", '"x"', "null", '{"model/x": 5}', '{"model/x": []}', '{"model/x": {"a": 1}}', "{}"):
    contents(f"contents {value}", lambda _listing, _array, value=value: value)
for dtype in (
    "O",
    "V2000000000",
    "f8,i4",
    "f8," * 10_000 + "f8",
    "(9,9)f4",
    "<U9",
    "M8[ns]",
    ">f16",
    5,
    ["<f4"],
    "$(x)",
):
    described(f"type {str(dtype)[:12]} {len(str(dtype))}", dtype=dtype)
for shape in ([-1, -30], [1 << 32, 1 << 32], [1 << 62, 4], [True, 30], ["2", 3], 7, "ab", {"a": 1}, [1.0, 2.0], [None]):
    described(f"shape {shape}", shape=shape)
described("shape of 100,000 ones", shape=[1] * 100_000)
for place in (-8, 0, 10**9, 10**30, True, 5000.0, "5000", None, [5000]):
    described(f"position {place}", offset=place)
described("shape of 500 large numbers", shape=[10**30] * 500)

# --- the config -----------------------------------------------------------------------------------------

for title, text in {
    "no TOML": "epochs = = 3",
    "arrays nested 10,000 deep": "a = " + "[" * 10_000,
    "arrays nested 300 deep": "threads = 1\n[data]\nx = " + "[" * 300 + "]" * 300,
    "a key of 30,000 parts": "a" + ".a" * 30_000 + " = 1",
    "tables of 300 parts": "threads = 1\n[data]\n[a" + ".a" * 300 + "]",
    "a number of 9,000 digits": "a = " + "9" * 9000,
    "text of 20 MB": "# " + "x" * 20_000_000,
    "no data": "epochs = 2",
    "data of a number": "threads = 1\ndata = 5",
    "threads of text": 'threads = "auto"\n[data]\ntrain = "x"',
}.items():
    attribute(f"a config with {title}", "/", "config", text)

# --- more than the file has, and other things -----------------------------------------------------------


def _giant(name: str) -> Change:
    """Return a change that adds an array of 4 TiB in a sparse file, which takes no room on the disk."""

    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            storage.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            storage.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((GIANT // 4,))
            giant = h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, dcpl=storage)
            list_again(file, listed(file) | {name: ["<f4", [GIANT // 4], giant.get_offset(), "0" * 64]})
        seal(path)

    return change


HOSTILE["4 TiB of weights in a sparse file"] = _giant("model/giant")
HOSTILE["4 TiB of structure in a sparse file"] = lambda path: os.truncate(path, GIANT)
HOSTILE["4 TiB of history in a sparse file"] = _giant("history/giant")


def _table(file: h5py.File) -> None:
    table = file.create_dataset("history/table", data=np.zeros((3, 3)))
    digest = hashlib.sha256(bytes(72)).hexdigest()
    list_again(file, listed(file) | {"history/table": ["<f8", [3, 3], table.id.get_offset(), digest]})


inside("a table as a column of the history", _table)


HOSTILE["cut off"] = lambda path: os.truncate(path, path.stat().st_size - 100)
HOSTILE["half of it"] = lambda path: os.truncate(path, path.stat().st_size // 2)
HOSTILE["empty"] = lambda path: os.truncate(path, 0)
instead("a text file", lambda path: path.write_text("hello\n" * 1000))
instead("zeros", lambda path: path.write_bytes(bytes(100_000)))
instead("a folder", lambda path: path.mkdir())
instead("a pipe", os.mkfifo)
instead("a link to a pipe", lambda path: (os.mkfifo(f"{path}.pipe"), path.symlink_to(f"{path}.pipe")))
instead("a link that leads nowhere", lambda path: path.symlink_to("/nowhere"))
instead("a link to itself", lambda path: path.symlink_to(path.name))
instead("a link to an endless file", lambda path: path.symlink_to("/dev/zero"))
instead("a link to a text file", lambda path: path.symlink_to("/etc/passwd"))
