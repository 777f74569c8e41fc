"""Settings as given from Python."""

import pytest

from dbp import nn
from dbp.config.settings import Data, Settings
from dbp.errors import UserError
from dbp.optim import SGD
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
