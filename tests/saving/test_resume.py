"""Resuming: what may differ, damaged checkpoints, and starts that come to nothing."""

import pytest

from dbp import nn
from dbp.checkpoint import checkpoints_of, digest_arrays, read
from dbp.config.settings import Data, Watch
from dbp.errors import UserError
from dbp.optim import Adam
from dbp.saving.resume import Start
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
    with pytest.raises(UserError, match=r"go on nevertheless with --accept data.train"):
        run(tmp_path, data=other)
    run(tmp_path, Start(accept=("data.train",)), data=other, epochs=2)
    with pytest.raises(UserError, match=r"is of another run \(model/dense_1/weight is <f4 \(5, 8\) in the checkpoint"):
        run(tmp_path, Start(accept=("model", "data")), model=[nn.Dense(9, "tanh"), nn.Dense(3)])


def test_a_damaged_file_is_kept_under_another_name(tmp_path, capsys):
    whole = run(tmp_path)
    newest = checkpoints_of(tmp_path).files()[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    again = run(tmp_path, Start())
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    assert f"warning: checkpoint {newest} is damaged" in capsys.readouterr().out
    assert newest.with_name(newest.name + ".damaged").exists()
    assert read(newest).progress["finished"]


def test_a_run_that_comes_to_nothing_again_and_again_is_not_started(tmp_path, monkeypatch):
    """Each start dies before its next checkpoint."""
    monkeypatch.setattr("dbp.training.fit.train_epochs", lambda *_: (_ for _ in ()).throw(ZeroDivisionError()))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run(tmp_path)
    with pytest.raises(UserError, match=r"was started 3 times from step 0 and never came .*--retry"):
        run(tmp_path)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, watch=Watch(most_starts=0))
    monkeypatch.undo()
    assert run(tmp_path, Start(retry=True)).steps == 16
