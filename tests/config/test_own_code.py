"""Layers and losses of one's own in a config, from a file beside it, and by commands that are told the file."""

import sys

import numpy as np
import pytest

from dbp import load
from dbp.config.from_table import read_settings
from dbp.config.own_code import imported, is_own_kind, kind_of, own_kinds
from dbp.config.to_table import table_from
from dbp.errors import UserError
from dbp.nn import FunctionLoss
from tests.jobs import dbp, digest, mpirun

MODULE = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dbp.autodiff import square, log_softmax, pick
from dbp.metrics import Metric
from own_neighbor import FACTOR


@dataclass(frozen=True)
class Scale:
    """Multiply all inputs."""

    kind: ClassVar[str] = "scale"
    by: float = 1.0

    def __call__(self, scope, x):
        return FACTOR * self.by * x


def steep(outputs, targets):
    """Return twice the cross-entropy."""
    return -2 * pick(log_softmax(outputs), index=targets)


total = Metric(
    "total_weight", lambda outputs, targets, weights: [weights.sum()], lambda sums: sums[0], larger_is_better=True
)
raise_now = None
'''
CONFIG = """
loss = "NAME:steep"
metrics = ["NAME:total"]
epochs = 1
batch_size = 50
shards = 2

[data]
train = "dbp:digits-train"

[model]
layers = [
    { kind = "NAME:Scale", by = 2.0 },
    { kind = "flatten" },
    { kind = "dense", units = 10 },
]

[optimizer]
kind = "adam"
"""


@pytest.fixture
def own(tmp_path):
    """Return a folder with a module of a name of its own, a config beside it, and that name."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{name}.py").write_text(MODULE)
    (tmp_path / "code" / "own_neighbor.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "code" / "config.toml").write_text(CONFIG.replace("NAME", name))
    yield tmp_path / "code", name
    for module in (name, "own_neighbor"):
        sys.modules.pop(module, None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path / "code")]


def test_a_config_names_code_beside_it(own):
    folder, name = own
    settings = read_settings(folder / "config.toml", [])
    assert settings.model.layers[0].by == 2.0
    table = table_from(settings)
    assert table["model"]["layers"][0] == {"kind": f"{name}:Scale", "by": 2.0}
    assert (table["loss"], table["metrics"], table["code"]) == (f"{name}:steep", [f"{name}:total"], str(folder))
    assert kind_of(type(settings.model.layers[0])) == f"{name}:Scale"


def test_each_target_may_have_a_loss_of_such_code(own):
    folder, name = own
    losses = {"a": f"{name}:steep", "b": {"kind": f"{name}:steep", "weight": 0.5}}
    given = [f"loss={{a='{name}:steep',b={{kind='{name}:steep',weight=0.5}}}}", "metrics={a=[],b=[]}"]
    settings = read_settings(folder / "config.toml", given)
    assert all(isinstance(part.loss, FunctionLoss) for part in settings.loss.parts.values())
    assert table_from(settings)["loss"] == losses
    assert own_kinds({"loss": losses}) == [f"{name}:steep"] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("loss=NAME:steeper", r"loss 'NAME:steeper': \S+NAME.py has no steeper; did you mean 'steep'\?"),
        ("loss=other:steep", r"loss 'other:steep': there is no file \S+other.py"),
        ("loss=json:loads", r"loss 'json:loads': there is no file"),
        ("model.layers.0.kind=NAME:steep", r"model.layers.0.by: NAME:steep is no class, so it takes no settings"),
        ("model.layers.0.bye=1", r"unknown key 'model.layers.0.bye'; did you mean 'model.layers.0.by'"),
        ("model.layers.0.by=much", r"model.layers.0.by must be a number, but is 'much'"),
        ("loss=NAME:raise_now", "loss None lacks kind"),
    ],
)
def test_mistakes_are_named(own, change, message):
    folder, name = own
    with pytest.raises(UserError, match=message.replace("NAME", name)):
        read_settings(folder / "config.toml", [change.replace("NAME", name)])


def test_an_error_of_the_code_is_said_with_its_file(own):
    folder, name = own
    (folder / f"{name}.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(UserError, match=rf"importing \S+{name}.py failed: ModuleNotFoundError: No module"):
        read_settings(folder / "config.toml", [])


def test_a_name_that_another_module_has_is_refused(own):
    folder, _ = own
    (folder / "json.py").write_text("def loss(outputs, targets):\n    return outputs\n")
    with pytest.raises(UserError, match="another module has the name json; rename"):
        imported("json:loss", folder, "loss")


def test_a_file_that_is_passed_is_the_only_one(own):
    """A checkpoint that somebody else has made cannot name another file, nor what a file has from elsewhere."""
    folder, name = own
    (folder / "setup.py").write_text("raise SystemExit\n")
    with pytest.raises(UserError, match=rf"in a file setup\.py, but the one given is \S+{name}\.py; pass --code setup"):
        imported("setup:run", folder / f"{name}.py", "loss")
    with pytest.raises(UserError, match="dataclass is defined in dataclasses; name the file that defines it"):
        imported(f"{name}:dataclass", folder / f"{name}.py", "model.layers.0")
    (folder / f"{name}_deep").mkdir()
    (folder / f"{name}_deep" / "losses.py").write_text("def mine(outputs, targets):\n    return outputs\n")
    assert imported(f"{name}_deep.losses:mine", folder / f"{name}_deep" / "losses.py", "loss").__name__ == "mine"


def test_without_being_asked_nothing_is_imported():
    with pytest.raises(UserError, match=r"pass its file, --code own/layers\.py, or code="):
        imported("own.layers:Scale", None, "model.layers.0")
    assert "own" not in sys.modules
    assert not any(map(is_own_kind, ("dense", "a:", ":b", "a/b:c", "a:b:c", "../a:b", 3)))
    assert own_kinds({"model": {"layers": [{"kind": "a:B"}, {"kind": "dense"}]}, "loss": "c:d"}) == ["a:B", "c:d"]


@pytest.mark.slow
def test_a_run_is_trained_resumed_and_used_with_it(own, tmp_path, run_command):
    folder, name = own
    outcome = mpirun(2, "-m", "dbp", "train", folder / "config.toml", "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.text
    again = dbp("train", tmp_path / "run" / "config.toml", "--set", "epochs=2")
    assert again.code == 0, again.text
    code, _, errors = run_command("eval", tmp_path / "run", "dbp:digits-test")
    assert (code, errors.count("\n")) == (2, 1), errors
    assert f"is Python code: pass its file, --code {name}.py, or code='{name}.py' in Python" in errors
    used = mpirun(2, "-m", "dbp", "eval", tmp_path / "run", "dbp:digits-test", "--code", folder / f"{name}.py")
    assert used.code == 0, used.text
    assert used.out.startswith("cost ")
    assert "total weight 359" in used.out
    assert run_command("export", tmp_path / "run", tmp_path / "weights.npz")[0] == 0
    with pytest.raises(UserError, match=r"code nothing\.py does not exist"):
        load(tmp_path / "run", code="nothing.py")
    model = load(tmp_path / "run", code=folder)
    assert model.settings.loss(np.zeros((1, 10)), np.array([3])) == pytest.approx(2 * np.log(10))
    assert len(digest(tmp_path / "run")) == 64
