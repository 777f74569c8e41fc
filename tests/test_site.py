"""The docs as a site: built without a warning and without a network, with a reference of all that is public."""

import dataclasses
import importlib
import inspect
import re
import sys

import pytest
import yaml

import dbp
from dbp.metrics import METRICS
from dbp.nn import LAYERS, LOSSES
from dbp.optim import OPTIMIZERS, SCHEDULES
from tests.jobs import ROOT, run

DOCS = ROOT / "docs"
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    words = ("-m", "mkdocs", "build", "--strict", "--site-dir", folder)
    outcome = run(sys.executable, *words, cwd=ROOT, env=NO_NETWORK | {"NO_MKDOCS_2_WARNING": "1"}, timeout=200)
    assert outcome.code == 0, outcome.text
    return folder


@pytest.mark.slow
def test_a_page_needs_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text()
        assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//[^\">]*", text) == [], page
    for page in site.rglob("*.css"):
        assert "url(http" not in page.read_text()


@pytest.mark.slow
def test_the_pages_lead_to_the_examples_and_show_what_is_public(site):
    assert 'href="examples/digits.toml"' in (site / "config.html").read_text()
    assert (site / "examples" / "digits.toml").read_bytes() == (ROOT / "examples" / "digits.toml").read_bytes()
    for name in ("learning_rate", "beta1", "Kingma"):
        assert name in (site / "reference" / "optim.html").read_text()


def documented():
    """Yield the full name of each object in the reference."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        for block in re.split(r"^::: ", page.read_text(), flags=re.MULTILINE)[1:]:
            name, *lines = block.splitlines()
            members = [line.strip()[2:] for line in lines if line.startswith("        - ")]
            yield from [f"{name}.{member}" for member in members] or [name]


def found(path):
    """Return the object with a full name."""
    words = path.split(".")
    try:
        return getattr(importlib.import_module(".".join(words[:-1])), words[-1])
    except ModuleNotFoundError:
        return getattr(found(".".join(words[:-1])), words[-1])


def test_the_reference_has_all_that_is_public():
    names = set(documented())
    objects = [found(name) for name in names]
    kinds = [cls for table in (LAYERS, LOSSES, METRICS, OPTIMIZERS, SCHEDULES) for cls in table.values()]
    assert [cls.__name__ for cls in kinds if cls not in objects] == []
    public = {f"dbp.{name}" for name in dbp.__all__ if not inspect.ismodule(getattr(dbp, name)) and name[0] != "_"}
    assert public - names == set()


def described(cls):
    """Return the docstrings of a class and of the classes of dbp that it derives from."""
    return "\n".join(inspect.cleandoc(base.__doc__ or "") for base in cls.__mro__ if base.__module__[:3] == "dbp")


def parameters_of(thing):
    """Return the names of the settings of a class, or of the parameters of a function."""
    if inspect.isclass(thing):
        fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
        return [field.name for field in fields if field.init]
    return [name for name in inspect.signature(thing).parameters if name[0] != "_"] if inspect.isfunction(thing) else []


@pytest.mark.parametrize("name", sorted(documented()))
def test_a_docstring_names_every_setting(name):
    thing = found(name)
    if not inspect.isclass(thing) and not inspect.isfunction(thing):
        return  # a constant
    text = described(thing) if inspect.isclass(thing) else inspect.getdoc(thing)
    assert text
    if thing is dbp.fit:
        text += described(dbp.Settings)
    assert [word for word in parameters_of(thing) if not re.search(rf"\b{word}\b", text)] == []
    listed = re.search(r"^Args:\n((?:    .*\n?)+)", inspect.getdoc(thing), re.MULTILINE)
    named = re.findall(r"^    (\w+):", listed[1], re.MULTILINE) if listed else []
    assert not named or set(named) <= set(inspect.signature(thing).parameters) | {"positional", "settings"}


def test_the_page_on_derivatives_names_every_primitive_of_the_package():
    from dbp import autodiff

    text = (DOCS / "reference" / "autodiff.md").read_text()
    named = set(re.findall(r"`(\w+)`", text))
    hidden = {"Block", "MemoryCounter", "Primitive", "PRIMITIVES", "Recomputed", "Value", "graph_nodes"}
    hidden |= {name for name in autodiff.__all__ if name.endswith("_block")}
    hidden |= {
        "ConstantConvolution",
        "ConstantDense",
        "OtherParts",
        "channel_moments",
        "gru_by_position",
        "lstm_by_position",
        "owner",
        "Plan",
        "pullback",
        "pushforward",
        "UnplannableError",
        "Unrecorded",
        "arrays_kept",
    }
    members = {name.rpartition(".")[2] for name in documented() if name.startswith("dbp.autodiff.")}
    assert set(autodiff.__all__) - hidden == (named & set(autodiff.__all__)) | members


def test_the_navigation_has_every_page():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for item in (entry.values() if isinstance(entry, dict) else entry) for page in pages(item)]

    listed = {page for page in pages(config["nav"]) if page[0].islower() and not page.startswith("launch/")}
    assert listed == {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
