"""Names that are imported when they are first used."""

import importlib
import sys

import pytest

from dbp import autodiff, checkpoint, data, lazy, metrics, nn, optim
from tests.jobs import ROOT
from tests.processes import output_of, run

PACKAGES = (autodiff, autodiff.blocks, data, metrics, nn, nn.layers, optim)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_package_has_all_names_that_it_lists_and_no_others(package):
    assert all(hasattr(package, name) for name in package.__all__)
    assert dir(package) == sorted(package.__all__)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'missing'"):
        package.missing  # noqa: B018


def test_type_checkers_know_the_names_and_no_others(tmp_path):
    """A module's __getattr__ tells them that it has any name."""
    names = [package.__name__ for package in (*PACKAGES, checkpoint)]
    lines = [f"import {name}" for name in names] + [f"{name}.missing" for name in ("dbp", *names)]
    script = tmp_path / "script.py"
    script.write_text("\n".join([*lines, "reveal_type(dbp.nn.LSTM(4))"]))  # a name that is imported on use
    found = run(sys.executable, "-m", "mypy", script, cwd=ROOT, timeout=240).out
    assert found.count("[attr-defined]") == 1 + len(names)
    assert "layers.recurrent.LSTM" in found


@pytest.mark.parametrize("kinds", [nn.LAYERS, optim.OPTIMIZERS], ids=["layers", "optimizers"])
def test_kinds_are_those_of_their_classes(kinds):
    assert {kind: found.kind for kind, found in kinds.items()} == {kind: kind for kind in kinds}
    assert len(kinds) == len(set(kinds.values())) > 10
    assert "missing" not in kinds
    with pytest.raises(KeyError):
        kinds["missing"]


def test_kinds_show_their_names():
    assert repr(optim.OPTIMIZERS).startswith("<kinds of dbp.optim: ")
    assert "adamw" in repr(optim.OPTIMIZERS)


def test_a_name_is_looked_up_in_the_module_that_defines_it():
    assert lazy.attribute("dbp.optim", {"Muon": "muon"}, "Muon") is importlib.import_module("dbp.optim.muon").Muon


def test_whether_a_kind_is_known_is_told_without_its_import():
    code = "import sys, dbp.optim; print('newton' in dbp.optim.OPTIMIZERS, 'dbp.optim.newton' in sys.modules)"
    assert output_of(sys.executable, "-c", code, cwd=ROOT).split() == ["True", "False"]
