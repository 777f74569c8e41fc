"""Recipes of container images: their files exist, their commands are dbp's, and they agree with the README."""

import re
import shlex
import shutil
import sys
import tomllib

import pytest

from dbp.cli import parser_of
from tests.jobs import ROOT, run

FOLDER = ROOT / "examples" / "containers"
PAGE = (ROOT / "docs" / "containers.md").read_text()
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
DEFINITION = (FOLDER / "dbp.def").read_text()
PLACE = "/opt/dbp"  # of dbp's files while an image is built


def sections():
    """Return the sections of the definition by name, each a list of lines without comments."""
    head, *parts = re.split(r"^%(\w+)\n", DEFINITION, flags=re.MULTILINE)
    texts = {"head": head} | dict(zip(parts[::2], parts[1::2], strict=True))
    return {
        name: [w for w in map(str.strip, text.splitlines()) if w[:1] not in ("", "#")] for name, text in texts.items()
    }


def instructions():
    """Return the instructions of the Dockerfile in order, each with its words."""
    return [line.partition(" ")[::2] for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]


def copied():
    """Return what each file copies into the image, as source and target."""
    docker = [words.split() for name, words in instructions() if name == "COPY"]
    return {
        "dbp.def": dict(line.split() for line in sections()["files"]),
        "Dockerfile": {s: t if s == "dbp" else t + s for *sources, t in docker for s in sources},
    }


def test_both_are_of_one_python_that_dbp_supports():
    base = re.search(r"^From: (\S+)$", DEFINITION, re.MULTILINE).group(1)
    assert instructions()[0] == ("FROM", base)
    least = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim", base).group(1)
    assert [int(part) for part in version.split(".")] >= [int(part) for part in least.split(".")]


@pytest.mark.slow
def test_the_files_that_are_copied_are_enough_to_install(tmp_path):
    """A wheel of them alone installs, and has its command and data."""
    one, other = copied().values()
    assert one == other
    for source, target in one.items():
        assert target == f"{PLACE}/{source}"
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    site = tmp_path / "site"
    plain = ("--quiet", "--no-deps", "--target", site)
    outcome = run(sys.executable, "-m", "pip", "install", *plain, tmp_path)
    assert outcome.code == 0, outcome.text
    outcome = run(sys.executable, "-m", "dbp", "--version", cwd=site, env={"PYTHONPATH": str(site)})
    assert outcome.out.startswith("dbp "), outcome.text
    assert (site / "dbp" / "data" / "digits-train.h5").exists()


def test_they_install_what_the_readme_installs():
    (word,) = set(re.findall(r"pip install --quiet ('\.\[\w+\]')", (ROOT / "README.md").read_text()))
    command = f"pip install --no-cache-dir '{PLACE}{shlex.split(word)[0].removeprefix('.')}'"
    assert sections()["post"] == [command, f"rm -r {PLACE}"]
    assert ("RUN", f"{command} && rm -r {PLACE}") in instructions()
    assert ("ENTRYPOINT", '["dbp"]') in instructions()


def test_both_set_the_same_variables():
    exports = [word for line in sections()["environment"] for word in line.removeprefix("export ").split()]
    (words,) = (words for name, words in instructions() if name == "ENV")
    assert set(words.split()) == {word for word in exports if not word.startswith("PYTHON")}


@pytest.mark.parametrize("name", ["post", "environment", "test", "runscript"])
def test_a_shell_understands_the_definition(tmp_path, name):
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck")
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\n" + "\n".join(sections()[name]) + "\n")
    outcome = run("shellcheck", script)
    assert outcome.code == 0, outcome.text


def commands():
    """Return the words of each dbp command on the page and in the definition."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    found = []
    for line in [*lines, *sections()["test"]]:
        words = shlex.split(line)
        if "dbp" in words and words[:2] != ["docker", "build"]:
            found.append(words[words.index("dbp") + 1 :])
    return found


def test_the_commands_are_those_that_dbp_has():
    assert len(commands()) == 5
    for words in commands():
        parsed = parser_of(words).parse_args(words)
        inner = words[words.index("--") + 1 :] if words[0] == "run" else words
        assert parser_of(inner).parse_args(inner).command is not None
        assert parsed.command is not None


def test_the_page_builds_what_is_there():
    assert "apptainer build dbp.sif examples/containers/dbp.def" in PAGE
    assert "apptainer build dbp.sif examples/containers/dbp.def" in DEFINITION
    (build,) = re.findall(r"^docker build .*$", PAGE, re.MULTILINE)
    assert f"#     {build}\n" in DOCKERFILE
    assert (ROOT / shlex.split(build)[-2]).samefile(FOLDER / "Dockerfile")


@pytest.mark.slow
@pytest.mark.time_limit(660)
@pytest.mark.skipif(shutil.which("apptainer") is None, reason="there is no apptainer")
def test_the_image_can_be_built(tmp_path):
    outcome = run("apptainer", "build", tmp_path / "dbp.sif", FOLDER / "dbp.def", cwd=ROOT, timeout=600)
    assert outcome.code == 0, outcome.text
