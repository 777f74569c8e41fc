"""Names of parameters that a checkpoint cannot hold are refused before training; all others train and resume."""

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.errors import UserError

X = np.random.default_rng(0).standard_normal((6, 2))


def named(*names):
    def model(scope, x):
        return sum(x @ scope.parameter(name, (2, 1)) for name in names)

    return model


@pytest.mark.parametrize("name", ["", ".", "..", "a//b", "/a", "a/", "./a", "a/../b", "a\0b", "\ud800"])
def test_names_that_hdf5_cannot_hold(name):
    with pytest.raises(UserError, match=r"a checkpoint cannot hold the parameter .* give it another name"):
        nn.initial_parameters(named("w", name), X, 0)


@pytest.mark.parametrize("names", [("enc", "enc/weight"), ("a/b/c", "a"), ("a/b/c/d", "a/b")])
def test_names_that_are_the_group_of_another(names):
    group, inner = sorted(names)
    with pytest.raises(UserError, match=f"cannot hold both {group!r} and {inner!r}, as one is the group"):
        nn.initial_parameters(named(*names), X, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("running_mean", "parameter 'norm/running_mean' has the name of running moments"),
        ("running_variance/a", "cannot hold both 'norm/running_variance' and 'norm/running_variance/a'"),
    ],
)
def test_names_of_running_moments(name, message):
    def model(scope, x):
        inner = scope.inside("norm")
        return nn.BatchNorm()(inner, x) @ inner.parameter(name, (2, 1))

    with pytest.raises(UserError, match=message):
        nn.initial_parameters(model, X, 0)


def test_a_wrong_name_is_said_with_its_layer():
    class Mine:
        kind = "mine"

        def __call__(self, scope, x):
            return x @ scope.inside("deep/").parameter("w", (2, 1))

    with pytest.raises(UserError, match="mine_1: a checkpoint cannot hold the parameter 'mine_1/deep//w'"):
        nn.initial_parameters(nn.Sequential(Mine()), X, 0)


def test_other_names_are_free(tmp_path):
    """Each is kept in a checkpoint as it is, from which the run continues."""
    names = ("ä ö", "a b", "*", "w", "w.", "x" * 300, "model", "a/running_mean", "[x]=1")
    x = X.astype("float32")

    def fit(epochs):
        settings = {"optimizer": dbp.optim.SGD(0.1), "batch_size": 3, "shards": 1, "quiet": True, "out": str(tmp_path)}
        return dbp.fit(model=named(*names), loss="huber", data=(x, x[:, :1]), epochs=epochs, **settings)

    assert tuple(fit(1).weights) == names
    assert fit(2).steps == 4
