"""What may differ when a run resumes, and what is refused."""

import pytest

from dbp import nn
from dbp.config.settings import Data
from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.optim import Adam
from dbp.saving.start import Start
from tests.saving.short_runs import run
from tests.small_data import X, Y


def test_what_differs_is_told_and_refused_unless_accepted(tmp_path, capsys):
    run(tmp_path, epochs=1)
    with pytest.raises(UserError, match=r"learning_rate: 0.01 in the checkpoint, 0.02 now.*--accept optimizer.learn"):
        run(tmp_path, optimizer=Adam(2e-2))
    result = run(tmp_path, Start(accept=("optimizer",)), optimizer=Adam(2e-2), epochs=2)
    assert result.steps == 8
    out = capsys.readouterr().out
    assert "note: what differs from the run so far: " in out
    assert "epochs: 1 in the checkpoint, 2 now; optimizer.learning_rate: 0.01 in the checkpoint, 0.02 now" in out


def test_other_data_may_be_accepted_but_not_another_model(tmp_path):
    run(tmp_path, epochs=1)
    other = Data((X + 1, Y), validation=0.2)
    with pytest.raises(UserError, match=r"continue anyway with --accept data.train"):
        run(tmp_path, data=other)
    run(tmp_path, Start(accept=("data.train",)), data=other, epochs=2)
    with pytest.raises(UserError, match=r"is of another run \(model/dense_1/weight is <f4 \(5, 8\) in the checkpoint"):
        run(tmp_path, Start(accept=("model", "data")), model=[nn.Dense(9, "tanh"), nn.Dense(3)])


def test_other_names_of_classes_are_other_data(tmp_path):
    def named(*classes):
        return Data(ArrayDataset(X, Y, classes=classes), validation=0.2)

    run(tmp_path, epochs=1, data=named("a", "b", "c"))
    run(tmp_path, epochs=1)  # of which nothing is known
    run(tmp_path, epochs=2, data=named("a", "b", "c"))
    with pytest.raises(
        UserError, match=r"classes of targets: a, b, c in the checkpoint, a, c, b now.*--accept data.tr"
    ):
        run(tmp_path, epochs=2, data=named("a", "c", "b"))
