"""Pages of the docs, followed as a reader does: files are written, commands run and outputs compared, in their order.

The blocks of a page mean:

    ```toml title="NAME"    the file NAME, in whatever language; other blocks of TOML are only shown
    ```sh                   commands, which must succeed; a line that ends with a backslash goes on in the next one
    ```python               a script, which must succeed
    ```console              commands that are only shown, as they need another machine
    ```text                 what the commands or the script above print; a line of three dots stands for any lines

After a change of what dbp prints, bring the outputs of some pages up to date by

    python -m tests.pages docs/tutorial.md
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dbp.cli import main
from tests import jobs

EXAMPLES = jobs.ROOT / "examples"
DATA = EXAMPLES / "data"  # tables of which a page says that they lie in the folder
HOME = "/home/me"  # stands on pages for the folder of the reader
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOTS = "..."
FIRST, LAST = 8, 4  # lines of a long output that a page shows
# What differs from run to run: times, speeds, versions, sizes, digests, and the widths that they have in a table.
VARYING = re.compile(
    r"host \S+, process \d+"
    r"|saved step [\d,]+|step-\d+\.h5 at epoch \d+, step [\d,]+|\(Open MPI [\d.]+\)|openblas [\w. ]+"
    r"|\d+ min \d+ s|[\d.,]+ ?(ms|s|min|h|us|kB|MB|GB|B|examples/s|k|M)\b"
    r"|\b[0-9a-f]{16,64}\b|\b\d+%|\d\d:\d\d(:\d\d)?|\d{4}-\d\d-\d\d"
)
EPOCH = re.compile(r"^[* ]*(\d+/\d+(?: +[-\d]+\.\S+)+).*")  # a row of training, with speed and time left behind it
ADVICE = re.compile(r"^(a step took|own work|data takes more|ranks wait for|warning: the ranks)")  # a busy machine's
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")
CLOSE = 0.05  # how far numbers may lie from those of the page, as a part of them, and for a value without decimals


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, its file name if it has one, its text, and where the text is in the page."""

    language: str
    title: str | None
    text: str
    span: tuple[int, int]


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page in their order."""
    return [Block(found[1], found[2], found[3], found.span(3)) for found in BLOCK.finditer(page)]


def outputs_of(page: str, folder: Path) -> Iterator[tuple[Block, str]]:
    """Follow a page in a folder; yield each block of output with what was printed in its place.

    Raises:
        AssertionError: a command or a script failed.
    """
    printed = None
    for block in blocks_of(page):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
        elif block.language == "sh":
            printed = "".join(run_line(line) for line in block.text.replace("\\\n", " ").splitlines() if line.strip())
        elif block.language == "python":
            (folder / "example.py").write_text(block.text)
            printed = run_script("example.py")
        elif block.language == "text" and printed is not None:
            yield block, printed.replace(str(folder), HOME)
            printed = None
        else:
            printed = None


def run_line(line: str) -> str:
    """Run a command line and return what it prints; one of dbp or Python in this process, as a new one takes longer."""
    words = shlex.split(line, comments=True)
    plain = not re.search(r"[|&;<>*]", re.sub(r"'[^']*'|\"[^\"]*\"", "", line))
    if words[:1] == ["dbp"] and words[1:2] not in (["run"], ["submit"]) and plain:
        with captured() as out:
            code = main(words[1:])
        assert code == 0, f"{line}\n{out.getvalue()}"
        return out.getvalue()
    if words[:1] == ["python"] and plain:
        return run_script(words[1], *words[2:])
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    outcome = jobs.run("bash", "-ec", line, cwd=Path.cwd(), env={"PATH": path})
    assert outcome.code == 0, f"{line}\n{outcome.text}"
    return outcome.text


def run_script(name: str, *words: str) -> str:
    """Run a script of the current folder in this process and return what it prints."""
    before, arguments, modules = sys.path[:], sys.argv, set(sys.modules)
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = [name, *words]
    try:
        with captured() as out:
            importlib.invalidate_caches()
            runpy.run_path(name, run_name="__main__")
        return out.getvalue()
    finally:
        sys.path[:], sys.argv = before, arguments
        for module in set(sys.modules) - modules:
            if getattr(sys.modules[module], "__file__", "").startswith(str(Path.cwd())):
                del sys.modules[module]


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """Collect what is printed, on both outputs."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield out


@contextlib.contextmanager
def reader_folder() -> Iterator[Path]:
    """Work in a new folder that holds the tables of the examples, and their configs in a folder `examples`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "examples").mkdir()
        for path in DATA.glob("*.csv"):
            shutil.copy(path, folder)
        for path in EXAMPLES.glob("*.toml"):
            shutil.copy(path, folder / "examples")
        with contextlib.chdir(folder):
            yield folder


def is_shown(expected: str, printed: str) -> bool:
    """Return True if a text is what was printed, but for what differs from run to run and for parts left out."""
    lines, start = without_advice(printed), 0
    parts = [without_advice(part) for part in re.split(rf"^{re.escape(DOTS)}$\n?", expected.strip("\n"), flags=re.M)]
    for number, part in enumerate(parts):
        ends = len(lines) - len(part)
        places = range(start, ends + 1)
        if number == 0:
            places = range(min(1, ends + 1))
        elif number == len(parts) - 1:
            places = range(max(ends, start), ends + 1)
        found = next((place for place in places if all(map(same_line, part, lines[place : place + len(part)]))), None)
        if found is None:
            return False
        start = found + len(part)
    return len(parts) > 1 or start == len(lines)


def without_advice(text: str) -> list[str]:
    """Return the lines of a text without those that depend on what else the machine does."""
    return [line.rstrip() for line in text.strip().splitlines() if not ADVICE.match(line)]


def same_line(expected: str, printed: str) -> bool:
    """Return True if two lines are the same but for times, the last digits of numbers, and blanks between words."""
    plain = [" ".join(VARYING.sub("*", EPOCH.sub(r"\1", line)).split()) for line in (expected, printed)]
    words = [re.sub(r"[-─━]{3,}", "---", NUMBER.sub("#", line)) for line in plain]
    pairs = zip(*(NUMBER.findall(line) for line in plain), strict=False)
    return words[0] == words[1] and all(is_close(*pair) for pair in pairs)


def is_close(expected: str, printed: str) -> bool:
    """Return True if two numbers are equal, or differ as those of another processor do."""
    a, b = (float(number.replace(",", "")) for number in (expected, printed))
    return a == b or ("." in expected and abs(a - b) <= CLOSE * max(1.0, abs(a)))


def updated(path: Path) -> str:
    """Return the text of a page with its outputs as they are now; of those that it does not show whole, the ends."""
    page, changes = path.read_text(), []
    with reader_folder() as folder:
        for block, printed in outputs_of(page, folder):
            if not is_shown(block.text, printed):
                lines, whole = without_advice(printed), bool(block.text) and DOTS not in block.text.splitlines()
                changes.append((block.span, "".join(f"{line}\n" for line in (lines if whole else shortened(lines)))))
    for (start, end), text in reversed(changes):
        page = page[:start] + text + page[end:]
    print(f"{path}: {len(changes)} outputs changed")
    return page


def shortened(lines: list[str]) -> list[str]:
    """Return the lines of an output, or its first and last ones if there are many."""
    return lines if len(lines) <= FIRST + LAST + 2 else [*lines[:FIRST], DOTS, *lines[-LAST:]]


if __name__ == "__main__":
    for word in sys.argv[1:]:
        Path(word).resolve().write_text(updated(Path(word).resolve()))
