"""README, docs and examples do what they say."""

import ast
import dataclasses
import itertools
import os
import re
import shutil
import sys

import pytest

from dbp.commands import COMMANDS, load
from dbp.config.data import Data
from dbp.config.settings import Checkpoint, EarlyStopping, Log, NotFinite, Settings, Watch
from dbp.nn import ACTIVATIONS, INITIALIZERS, LAYERS, LOSSES
from dbp.optim import OPTIMIZERS, SCHEDULES
from tests import processes
from tests.jobs import ROOT, dbp, run

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*/*.md")),
]
FOLLOWED = {"start.md", "tutorial.md", "cookbook"}  # whose blocks tests/test_pages.py runs in their order
AS_README = "index.md"  # the first page of the site, which shows what the README does
README = PAGES[0].read_text()
ABBREVIATIONS = {"CHANGELOG", "HDF5", "MPI", "MPICH", "TOML", "HDF"}  # in capitals, and no names in the code


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def same(got, expected):
    """Return True if texts are equal but for speeds, times, versions and the last digits of costs."""
    number = re.compile(r"\d+\.\d{4}\b")

    def plain(text):
        text = re.sub(r"a step took .*|own work in .*|in [\d.]+ s|\(Open MPI [\d.]+\)|openblas .*", "*", text)
        text = re.sub(r"(?m)^([* ] +\d+/\d+ .*\.\d{4}) .*", r"\1", text)  # a row without its speed and time
        return number.sub("#", text).strip()

    values = [float(x) for x in number.findall(got)], [float(x) for x in number.findall(expected)]
    return plain(got) == plain(expected) and values[0] == pytest.approx(values[1], abs=0.03)


def code_with_output():
    """Yield each block of Python of the pages with the block of text that follows it."""
    found = []
    for page in PAGES:
        if {page.name, page.parent.name} & {*FOLLOWED, AS_README}:
            continue
        in_order = re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)
        for (language, code), (next_language, output) in itertools.pairwise(in_order):
            if (language, next_language) == ("python", "text"):
                found.append(pytest.param(code, output, id=f"{page.name}-{len(found)}"))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("code", "output"), code_with_output())
def test_code_prints_what_is_shown(tmp_path, code, output):
    (tmp_path / "example.py").write_text(code)
    example = "dbp:digits" in code  # shown as started on two ranks
    start = ["-m", "dbp", "run", "-n", "2", "--"] if example else []
    outcome = run(sys.executable, *start, "example.py", cwd=tmp_path)
    assert outcome.code == 0, outcome.text
    assert same(outcome.out, output), outcome.out
    if example:
        assert code.strip() in (ROOT / "examples" / "digits.py").read_text()
        assert len(code.strip().splitlines()) <= 12


def test_every_block_of_code_has_its_output_checked():
    pages = [page for page in PAGES if not {page.name, page.parent.name} & {*FOLLOWED, AS_README}]
    shown = sum(len(blocks(page.read_text(), "python")) for page in pages)
    assert shown == len(code_with_output()) > 3


def test_the_first_page_of_the_site_shows_the_code_of_the_readme():
    page = (ROOT / "docs" / AS_README).read_text()
    for language in ("python", "text"):
        assert blocks(page, language)[0] == blocks(README, language)[0], f"copy it from the README to docs/{AS_README}"


def test_the_tree_is_that_of_the_folders():
    (tree,) = blocks((ROOT / "docs" / "architecture.md").read_text(), "tree")
    named = {line.split()[0] for line in tree.splitlines()}
    package = {f"{p.name}/" for p in (ROOT / "dbp").iterdir() if (p / "__init__.py").exists()}
    package |= {p.name for p in (ROOT / "dbp").glob("*.py") if not p.name.startswith("__")}
    folders = {f"{p.name}/" for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith(".")}
    folders -= {"runs/", "build/", "dbp_mpi.egg-info/"}
    assert named == package | folders


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_paths_in_contributing_exist():
    names = re.findall(r"`([^`\n]+)`", PAGES[1].read_text())
    paths = [name for name in names if re.fullmatch(r"[\w.-]+(/[\w.-]*)+|[\w.-]+\.(py|md|toml|yaml)", name)]
    paths = [path for path in paths if not re.fullmatch(r"test_b\w*\.py|tests/a|dbp/a", path)]  # stand for any names
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert len(paths) > 20


def recipes():
    """Yield the folder of each package whose docstring has the steps of a change, and that docstring."""
    for path in sorted((ROOT / "dbp").rglob("__init__.py")):
        text = ast.get_docstring(ast.parse(path.read_text()))
        if re.search(r"^To (add|change) ", text, re.MULTILINE):
            yield path.parent, text


def defined_names():
    """Return the names of all functions, classes, variables and fields in dbp and tests."""
    found = set()
    for path in (*(ROOT / "dbp").rglob("*.py"), *(ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def test_paths_and_names_in_recipes_exist():
    defined = defined_names()
    for folder, text in recipes():
        for path in re.findall(r"[\w./]+\.(?:py|md)\b|\b(?:dbp|tests)(?:/\w+)+\b(?!\.\w)", text):
            assert (folder / path).exists() or (ROOT / path).exists(), f"{path} in the docstring of {folder}"
        steps = text[re.search(r"^To (add|change) ", text, re.MULTILINE).start() :]
        for name in re.findall(r"`([\w.]+)`|\b(_?[A-Z]{2,}(?:_[A-Z]+)*)\b(?![.])", steps):
            (words,) = filter(None, name)
            if words not in ABBREVIATIONS:
                assert set(words.split(".")) <= defined, f"{words} in the docstring of {folder}"


def test_contributing_names_every_package_with_recipes():
    named = set(re.findall(r"`([\w/]+)/__init__.py` \|", PAGES[1].read_text()))
    assert named == {str(folder.relative_to(ROOT)) for folder, _ in recipes()}


def test_the_page_on_configs_names_every_key_and_kind():
    text = (ROOT / "docs" / "config.md").read_text()
    keys = {f.name for f in dataclasses.fields(Settings)} - {
        "model",
        "data",
        "optimizer",
        "schedule",
        "checkpoint",
        "watch",
        "early_stopping",
        "not_finite",
        "log",
    }
    keys |= {f"data.{f.name}" for f in dataclasses.fields(Data)}
    keys |= {f"checkpoint.{f.name}" for f in dataclasses.fields(Checkpoint)}
    keys |= {f"watch.{f.name}" for f in dataclasses.fields(Watch)}
    keys |= {f"early_stopping.{f.name}" for f in dataclasses.fields(EarlyStopping)}
    keys |= {f"not_finite.{f.name}" for f in dataclasses.fields(NotFinite)}
    keys |= {f"log.{f.name}" for f in dataclasses.fields(Log)}
    keys |= {"model.layers", "model.outputs", "optimizer.kind", "schedule.kind", "code"}
    assert set(re.findall(r"^\| `([a-z0-9_.]+)` \|", text, re.MULTILINE)) == keys.union(
        LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
    )
    for kinds in (LAYERS, LOSSES, OPTIMIZERS, SCHEDULES):
        for kind, cls in kinds.items():
            assert f"`{kind}`" in text
            assert all(f"`{field.name}`" in text for field in dataclasses.fields(cls))
    assert all(f"`{name}`" in text for name in (*ACTIVATIONS, *INITIALIZERS))
    for kind, loss in LOSSES.items():
        (metrics,) = re.findall(rf"^\| `{kind}` .* \| (.*) \|$", text, re.MULTILINE)
        assert metrics == ", ".join(f"`{metric}`" for metric in loss.default_metrics)


def test_the_page_on_running_names_every_command():
    text = (ROOT / "docs" / "running.md").read_text()
    commands = re.findall(r"^    (\w+) ", dbp("--help").out, re.MULTILINE)
    assert set(commands) == set(re.findall(r"^\| `dbp (\w+)", text, re.MULTILINE))


def test_the_page_on_running_names_the_commands_that_work_on_ranks():
    text = (ROOT / "docs" / "running.md").read_text()
    (named,) = re.findall(r"^(`train`.*?) work on any number of ranks", text, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", named)) == {name for name in COMMANDS if load(name).ON_RANKS}


def test_the_readme_has_one_command_that_trains_and_one_that_tests():
    commands = blocks(README, "sh")
    assert "dbp run -n 2 -- train examples/digits.toml" in commands[0]
    assert len([command for command in commands if "pytest" in command]) == 1


def test_the_ci_runs_the_command_that_tests(tmp_path):
    """Run the part of .ci/run that finds the command, on READMEs with none, one, two, and one that installs nothing."""
    script = (ROOT / ".ci" / "run").read_text()
    finds = script[script.index("command=$(") : script.index('\nbash -c "$install"')] + '\necho "$install, $tests"'
    command = "pip install . && python -m pytest"
    for commands, told in (([], "have one"), ([command] * 2, "have one"), (["pytest"], "install && run")):
        assert (outcome := found_by(finds, tmp_path, commands)).code == 1, outcome.text
        assert outcome.out == ""
        assert f"README.md must {told}" in outcome.err
    outcome = found_by(finds, tmp_path, [command])
    assert (outcome.code, outcome.out) == (0, f"{command}\npip install ., python -m pytest\n"), outcome.text


def found_by(finds, folder, commands):
    blocks = [f"```sh\n{command}\n```\n" for command in ("first", *commands)]
    (folder / "README.md").write_text("".join(blocks))
    return run("bash", "-euo", "pipefail", "-c", finds, cwd=folder)


def test_the_readme_is_short():
    assert len(README.splitlines()) < 100


@pytest.mark.slow
def test_any_number_of_ranks_gives_the_digest_of_the_readme_thrice(tmp_path):
    """Run the README's demonstration; the digest depends on the processor, that there is one does not."""
    (command,) = (text for text in blocks(README, "sh") if "--digest" in text)
    shown = README[README.index(command) :].split("```text\n")[1].split("```")[0].split()
    assert len(shown) == 3
    assert len(set(shown)) == 1
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    here = os.path.dirname(sys.executable)  # noqa: PTH120
    outcome = run("bash", "-euc", command.replace(".venv/bin", here), cwd=tmp_path)
    assert outcome.code == 0, outcome.text
    printed = outcome.out.split()
    assert len(printed) == 3
    assert len(set(printed)) == 1
    assert len(printed[0]) == len(shown[0]) == 64


@pytest.mark.slow
@pytest.mark.time_limit(660)
@pytest.mark.skipif(not os.environ.get("CI"), reason="installs packages: set CI=true to have it run")
def test_the_first_command_works_as_printed(tmp_path):
    """Run it in a fresh copy, with a Python that has nothing installed."""
    skip = shutil.ignore_patterns(".git", ".venv*", "runs", "*.egg-info", "build", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tmp_path / "dbp", ignore=skip)
    base = os.path.dirname(os.path.realpath(sys.executable))  # noqa: PTH120
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PRTE_", "VIRTUAL_ENV"))}
    environment |= {"PATH": f"{base}:{os.environ['PATH']}"}
    outcome = processes.run("bash", "-c", blocks(README, "sh")[0], cwd=tmp_path / "dbp", env=environment, timeout=600)
    assert outcome.code == 0, outcome.text
    assert "dbp 0.1.0: 2 ranks" in outcome.out
    accuracy = re.search(r"test: cost [\d.]+  accuracy ([\d.]+)", outcome.out)
    assert float(accuracy.group(1)) >= 0.97
