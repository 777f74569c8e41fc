"""Settings as given from Python."""

import numpy as np
import pytest

from dbp import nn
from dbp.config.data import Data
from dbp.config.from_table import settings_from
from dbp.config.settings import Settings
from dbp.config.to_table import table_from
from dbp.errors import UserError
from dbp.optim import SGD, Adam, Cosine
from tests.small_data import X, Y


def test_settings_in_short_form():
    settings = Settings([nn.Dense(3)], "cross_entropy", (X, Y), SGD(0.1), epochs=1, batch_size=5)
    assert isinstance(settings.model, nn.Sequential)
    assert settings.loss == nn.CrossEntropy()
    with pytest.raises(UserError, match=r"the train arrays must be \(inputs, targets\)"):
        Data((X,))


def test_settings_by_name():
    with pytest.raises(UserError, match="unknown setting 'batchsize'; did you mean 'batch_size'"):
        Settings.of(batchsize=3)
    with pytest.raises(UserError, match="loss is missing; a run needs it"):
        Settings.of(model=[nn.Dense(3)])


def settings(**changes):
    given = {"model": [nn.Dense(3)], "loss": "cross_entropy", "data": (X, Y), "optimizer": "adam", "epochs": 1}
    return Settings.of(**(given | {"batch_size": 5} | changes))


def test_optimizers_schedules_and_batches_have_names():
    found = settings(optimizer="adam", schedule="cosine", batch_size="all")
    assert (found.optimizer, found.schedule) == (Adam(), Cosine())
    assert (found.examples_per_step(90), settings(batch_size=7).examples_per_step(90)) == (90, 7)
    read = settings_from(table_from(settings(data="x.h5", batch_size="all", optimizer=Adam(0.5))))
    assert (read.batch_size, read.optimizer) == ("all", Adam(0.5))


def test_paths_may_be_given_as_paths(tmp_path):
    found = settings(data=tmp_path / "x.h5", out=tmp_path / "run", weights=tmp_path / "w")
    assert (found.data.train, found.out, found.weights) == tuple(str(tmp_path / name) for name in ("x.h5", "run", "w"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adm"}, r"unknown optimizer 'adm'; did you mean 'adam'\?"),
        ({"optimizer": "sgd"}, r"optimizer 'sgd' needs learning_rate; from Python give dbp.optim.SGD\(learning_.*"),
        ({"optimizer": Adam}, r"optimizer Adam is a class; make an object of it: Adam\(...\)"),
        ({"schedule": 0.5}, r"schedule must be a name \(valid: constant, .*\) or an object of dbp.optim, but is 0.5"),
        ({"batch_size": "full"}, "batch_size must be a whole number or 'all', but is 'full'"),
        ({"batch_size": np.array([1, 2])}, r"batch_size must be a whole number or 'all', but is array\(\[1, 2\]\)"),
        ({"shards": np.array([1, 2])}, r"shards must be a whole number, but is array\(\[1, 2\]\)"),
        ({"epochs": "all"}, "epochs must be a whole number, but is 'all'"),
        ({"epochs": None}, "epochs must be a whole number, but is None"),
        ({"batch_size": 2.5}, "batch_size must be a whole number or 'all', but is 2.5"),
        ({"epochs": "3"}, "epochs must be a whole number, but is '3'"),
        (
            {"data": [X, Y]},
            r"data.train must be a list of files, but has a ndarray in it; give arrays as a tuple \(inputs, targets\)",
        ),
        ({"data": None}, r"data.train must be a file, .* a data set, or a tuple \(inputs, targets\), but is None"),
        ({"data": 1}, r"data.train must be a file, .* a data set, or a tuple \(inputs, targets\), but is 1"),
        ({"watch": 3}, r"watch must be a dbp.Watch\(...\), but is 3"),
        ({"out": 3}, "out must be the name of a file or folder, but is 3"),
    ],
)
def test_values_of_another_type_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        settings(**changes)


@pytest.mark.parametrize("scale", ["a", np.ones((2, 2)), [1, 0], 0, float("inf")])
def test_a_scale_is_a_number_or_a_list_and_stored_as_floats(scale):
    with pytest.raises(UserError, match=r"^data\.scale must be a finite number other than 0, or one for each"):
        Data("x.h5", scale=scale)
    assert type(Data("x.h5", scale=2).scale) is float
    assert Data("x.h5", scale=np.ones(2), shift=[1, 2]).shift == (1.0, 2.0)
    with pytest.raises(UserError, match=r"^data\.shift must be a finite number, or one for each column, but is nan"):
        Data("x.h5", shift=np.nan)
