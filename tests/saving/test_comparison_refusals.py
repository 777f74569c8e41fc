"""Checkpoints of other runs are refused and kept."""

import pytest

from dbp import nn
from dbp.config.data import Data
from dbp.errors import UserError
from dbp.optim import SGD
from tests.small_data import X, Y
from tests.training.fit_runs import run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, r"seed: 0 in the checkpoint, 1 now"),
        ({"batch_size": 15}, r"batch_size: 14 in the checkpoint, 15 now"),
        ({"shards": 4}, r"shards: 3 in the checkpoint, 4 now"),
        ({"threads": 2}, r"threads: 1 in the checkpoint, 2 now"),
        ({"optimizer": SGD(0.1)}, r"optimizer.kind: 'adam' in the checkpoint, 'sgd' now"),
        ({"model": [nn.Dense(9, "tanh"), nn.Dense(3)]}, r"model.layers.0.units: 8 in the checkpoint, 9 now"),
        ({"data": Data((X + 1, Y), validation=0.2)}, r"train data: other examples"),
        ({"data": Data((X, Y), validation=0.3)}, r"data.validation: 0.2 in the checkpoint, 0.3 now"),
        ({"data": Data((X, Y), validation=(X, Y))}, r"data.validation: 0.2 .* 'not set' now; validation data: other"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(tmp_path, change, message):
    run(out=str(tmp_path), epochs=1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    with pytest.raises(UserError, match=message + r".*--fresh"):
        run(out=str(tmp_path), **change)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.*")} == before


def test_a_model_of_ones_own_is_told_apart_by_its_parameters(tmp_path):
    def narrow(scope, x):
        return x @ scope.parameter("w", (5, 3))

    def wide(scope, x):
        return x @ scope.parameter("w", (5, 4)) @ scope.parameter("v", (4, 3))

    run(out=str(tmp_path), model=narrow)
    wide.__qualname__ = narrow.__qualname__
    with pytest.raises(UserError, match=r"model/w is <f4 \(5, 3\) in the checkpoint, but this run has <f4 \(5, 4\)"):
        run(out=str(tmp_path), model=wide)
