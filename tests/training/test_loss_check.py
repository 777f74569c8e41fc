"""The check of a loss of one's own before the first step: once, on all ranks, with the model's own outputs."""

import pytest

from dbp import nn
from dbp.autodiff import array_of, softplus
from dbp.config.data import Data
from dbp.errors import UserError
from tests.jobs import mpirun
from tests.saving.short_runs import run
from tests.small_data import X

SCRIPT = """
import numpy as np
import dbp
from dbp import nn
from dbp.autodiff import array_of

x = np.arange(40.0).reshape(20, 2) / 40
dbp.fit(model=[nn.Dense(1)], loss=lambda o, t: (o - t) * array_of(o - t), data=(x, x[:, 0]), optimizer="adam", epochs=1,
        batch_size=10, shards=2)
"""


def test_the_outputs_are_those_of_the_model_and_not_of_zeros():
    """A logarithm of positive outputs is right; it has none of others."""

    def model(scope, x):
        return softplus(nn.Dense(1)(scope.inside("dense"), x))

    def half(outputs, targets):
        scale = array_of(outputs).mean() if (array_of(outputs) != 0.5).any() else 1.0
        return (outputs - targets) * scale

    with pytest.raises(UserError, match="the derivative of loss half by the outputs is wrong"):
        run(model=model, loss=half, data=Data((X, X[:, 0] ** 2)))


@pytest.mark.slow
def test_it_is_said_once(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    outcome = mpirun(3, tmp_path / "train.py")
    assert outcome.code == 2, outcome.text
    assert outcome.text.count("the derivative of loss <lambda> by the outputs is wrong") == 1
    assert "Traceback" not in outcome.text
