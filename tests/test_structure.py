"""The plan of the code: who may import whom, sizes of files and functions, tests beside packages, ruff and mypy."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from tests.jobs import ROOT
from tests.processes import run

PACKAGE, TESTS = ROOT / "dbp", ROOT / "tests"
FILES = sorted(PACKAGE.rglob("*.py"))

# The ground: modules that all parts may import. They import one another only.
GROUND = {
    "errors",
    "text",
    "terminal",
    "blas",
    "files",
    "plain_files",
    "process_tree",
    "sparse_file",
    "checks",
    "types",
    "version",
    "job",
    "kernels",
    "lazy",
    "library",
    "log",
    "named_arrays",
    "other_frameworks",
    "process",
    "random",
}

# The import rule: what each other part, a package or a module at the top, imports besides.
IMPORTS = {
    # leaves
    "autodiff": set(),
    "checkpoint": set(),
    "data": set(),
    "listeners": set(),
    "optim": set(),
    "parallel": set(),
    # the trunk
    "nn": {"autodiff"},
    "metrics": {"autodiff", "nn"},
    "config": {"data", "metrics", "nn", "optim", "reading"},
    "reading": {"data", "nn", "parallel"},
    "cost": {"autodiff", "data", "metrics", "nn", "parallel", "reading"},
    "run": {"checkpoint", "config", "cost", "data", "metrics", "nn", "optim", "parallel", "reading"},
    "saving": {"checkpoint", "config", "data", "parallel", "run"},
    "training": {"autodiff", "config", "cost", "listeners", "metrics", "nn", "optim", "parallel", "reading", "run"}
    | {"saving", "trained"},
    # branches
    "summary": {"autodiff", "config", "cost", "data", "nn", "parallel", "run"},
    "trained": {"autodiff", "checkpoint", "config", "cost", "data", "exchange", "metrics", "nn", "parallel", "reading"}
    | {"run", "summary"},
    "insight": {"autodiff", "checkpoint", "config", "cost", "data", "nn", "parallel", "reading", "summary", "trained"},
    "exchange": {"autodiff", "checkpoint", "config", "data", "nn", "run"},
    "batch": {"config", "parallel", "saving"},
    "convert": {"data"},
    "doctor": {"batch", "checkpoint", "config", "data", "parallel", "run", "saving", "training"},
    "report": {"batch", "checkpoint", "config", "data", "insight", "metrics", "nn", "parallel", "run", "saving"}
    | {"trained"},
    "starter": {"data"},
    # the face
    "notebook": {"cli"},
    "script": {"parallel"},
    "sklearn": {"config", "data", "nn", "optim", "parallel", "saving", "trained", "training"},
    "__init__": {"autodiff", "checkpoint", "config", "convert", "data", "insight", "listeners", "metrics", "nn"}
    | {"notebook", "optim", "parallel", "script", "sklearn", "trained", "training"},
    "commands": {
        "batch",
        "checkpoint",
        "config",
        "convert",
        "data",
        "doctor",
        "exchange",
        "insight",
        "parallel",
        "report",
    }
    | {"run", "saving", "starter", "summary", "trained", "training"},
    "cli": {"commands", "parallel", "saving"},
    "__main__": {"cli"},
}
MOST_PARTS = 10  # that one module imports, but for the ground

# The levels of packages that have some: each imports only those before it.
LEVELS = {"dbp.parallel": ["shards", "machine", "ranks", "vectors", "sums", "__init__"]}

# Where the two libraries of other people's C code are imported, and nowhere else.
LIBRARIES = {"mpi4py": "dbp/parallel/ranks/mpi.py", "h5py": ("dbp/data", "dbp/checkpoint")}

# Tests of no one module: they stand at the top of tests/.
CROSS_CUTTING = {
    "benchmarks",
    "citation",
    "containers",
    "docs",
    "examples",
    "fault_injection",
    "hosts",
    "pages",
    "processes",
    "ranks",
    "shared_memory",
    "site",
    "slurm",
    "startup",
    "structure",
}
LONGEST_FILE, LONGEST_FUNCTION = 400, 60  # lines


# --- imports ------------------------------------------------------------------------------------------


def name_of(path):
    """Return the dotted name of a module, or of a package for its __init__."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


@functools.cache
def imported_names(path):
    """Return the names that a file imports, wherever in the file; `from a import b` gives a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@functools.cache
def imports(module):
    """Return the modules of dbp that a module of dbp imports."""
    found = set()
    for name in imported_names(MODULES[module]):
        if name.split(".")[0] == "dbp":
            while name not in MODULES:  # the name of something in a module
                name = name.rpartition(".")[0]
            found.add(name)
    return found - {module}


def part_of(module, package="dbp"):
    """Return the part of a package to which a module belongs: a module, a package within, or __init__."""
    inside = module.removeprefix(package).lstrip(".")
    return inside.split(".")[0] or "__init__"


@functools.cache
def parts_imported(package):
    """Return what each part of a package imports of the other parts."""
    found = {}
    for module in MODULES:
        if module == package or module.startswith(f"{package}."):
            inside = {name for name in imports(module) if name == package or name.startswith(f"{package}.")}
            parts = {part_of(name, package) for name in inside}
            found.setdefault(part_of(module, package), set()).update(parts)
    return {part: others - {part} for part, others in found.items()}


def test_each_part_belongs_to_the_ground_or_has_a_row():
    assert set(parts_imported("dbp")) == GROUND | set(IMPORTS)


def test_the_ground_imports_nothing_else():
    assert {part: parts_imported("dbp")[part] - GROUND for part in GROUND} == {part: set() for part in GROUND}


def test_each_part_imports_what_its_row_says_and_no_less():
    assert {part: parts_imported("dbp")[part] - GROUND for part in IMPORTS} == IMPORTS


def in_order(needs, what):
    """Return the names in an order in which each needs only those before it; fail if there is a cycle."""
    order = []
    while len(order) < len(needs):
        ready = sorted(name for name in set(needs) - set(order) if needs[name] <= set(order))
        rest = {name: sorted(needs[name] - set(order)) for name in set(needs) - set(order)}
        assert ready, f"a cycle among {what}: {rest}"
        order += ready
    return order


def test_parts_of_a_package_import_one_another_without_a_cycle():
    for package in (name for name, path in MODULES.items() if path.name == "__init__.py"):
        in_order(parts_imported(package), f"the parts of {package}")


def test_modules_have_no_cycle():
    """Importing a module imports the `__init__` files of its packages too."""

    def needs(module):
        for name in imports(module):
            words = name.split(".")
            for end in range(1, len(words) + 1):
                above = ".".join(words[:end])
                if above != module and not module.startswith(f"{above}."):
                    yield above
            if MODULES[name].name == "__init__.py":  # asked for by name, so even if it is above
                yield name

    in_order({module: set(needs(module)) for module in MODULES}, "modules")


@pytest.mark.parametrize("package", LEVELS)
def test_each_level_imports_only_those_before_it(package):
    found, levels = parts_imported(package), LEVELS[package]
    assert set(found) == set(levels)
    for part, others in found.items():
        assert others <= set(levels[: levels.index(part)]), f"{part} of {package} imports a level above it"


def test_the_docs_name_the_modules_of_the_ground():
    (named,) = re.findall(r"the \*\*ground\*\*, free to all: (.*);", (ROOT / "docs" / "architecture.md").read_text())
    assert set(re.findall(r"`(\w+)`", named)) == GROUND


def test_no_module_imports_from_too_many_parts():
    """The package itself may: it only names what its parts offer to users."""
    inner = [module for module in MODULES if module != "dbp"]
    others = {module: {part_of(name) for name in imports(module)} - GROUND - {part_of(module)} for module in inner}
    assert {module: sorted(parts) for module, parts in others.items() if len(parts) > MOST_PARTS} == {}


@pytest.mark.parametrize("library", LIBRARIES)
def test_mpi_and_hdf5_are_imported_in_one_place(library):
    users = [path for path in FILES if any(name.split(".")[0] == library for name in imported_names(path))]
    names = [str(path.relative_to(ROOT)) for path in users]
    assert [name for name in names if not name.startswith(LIBRARIES[library])] == []


# --- sizes --------------------------------------------------------------------------------------------


def faults_in(path):
    """Yield what is wrong with the sizes and the docstring of a file."""
    text = path.read_text()
    if len(text.splitlines()) > LONGEST_FILE:
        yield "the file is too long"
    tree = ast.parse(text)
    if not ast.get_docstring(tree):
        yield "the module does not say what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONGEST_FUNCTION:
            yield f"{node.name} is too long"


def test_files_and_functions_fit_in_the_eye():
    assert [f"{path.relative_to(ROOT)}: {fault}" for path in FILES for fault in faults_in(path)] == []


# --- tests --------------------------------------------------------------------------------------------


def test_no_file_of_tests_is_too_long():
    long = {str(path): len(path.read_text().splitlines()) for path in TESTS.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > LONGEST_FILE} == {}


def test_the_longest_files_of_tests_are_there():
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []


def test_tests_mirror_the_package():
    """tests/a/test_b.py and tests/a/test_b_anything.py test dbp/a/b, a module or a package."""
    cross_cutting = set()
    for path in TESTS.rglob("test_*.py"):
        name, folder = path.stem.removeprefix("test_"), path.parent.relative_to(TESTS)
        found = [word for word in prefixes(name) if is_there(PACKAGE / folder / word)]
        if folder == Path() and not found:
            cross_cutting.add(name)
        else:
            assert found, f"{path.relative_to(ROOT)} is named after nothing in dbp/{folder}"
    assert cross_cutting == CROSS_CUTTING


def prefixes(name):
    """Return a, a_b and a_b_c for a_b_c."""
    words = name.split("_")
    return ["_".join(words[:end]) for end in range(1, len(words) + 1)]


def is_there(module):
    return module.with_suffix(".py").exists() or (module / "__init__.py").exists()


def test_each_program_says_who_starts_it():
    texts = {path: path.read_text() for path in TESTS.rglob("*.py")}
    for program in (TESTS / "programs").glob("*.py"):
        starting = {
            str(path.relative_to(ROOT)) for path, text in texts.items() if f'PROGRAMS / "{program.name}"' in text
        }
        named = ast.get_docstring(ast.parse(texts[program])).rpartition("Started by ")[2]
        assert starting == set(re.findall(r"[\w/]+\.py", named)), program.name


def test_one_module_starts_processes():
    """Another would have to limit every wait, and to end all that it starts, wherever that is."""
    own = {TESTS / "processes.py", TESTS / "test_processes.py"}
    for path in {*TESTS.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")} - own:
        starts = {"subprocess", "multiprocessing", "subprocess.Popen", "subprocess.run", "os.killpg", "os.system"}
        assert not starts & imported_names(path), f"{path.relative_to(ROOT)} does not use tests/processes.py"


# --- style --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_style_and_types(command):
    outcome = run(sys.executable, "-m", *command, cwd=ROOT, timeout=240)
    assert outcome.code == 0, outcome.text
