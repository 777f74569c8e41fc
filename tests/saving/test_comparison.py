"""What may differ when a run resumes, and what is refused."""

import dataclasses

import pytest

from dbp import nn
from dbp.config.data import Data
from dbp.config.settings import Checkpoint
from dbp.data import ArrayDataset
from dbp.errors import UserError
from dbp.optim import Adam, Cosine, OneCycle, Polynomial, StepDecay
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


@pytest.mark.parametrize(
    ("schedule", "jump"), [(Cosine(), "0 to 0.4"), (OneCycle(), "4e-06 to 0.6"), (Polynomial(), "0 to 0.4")]
)
def test_more_epochs_are_a_choice_where_the_learning_rate_would_jump(tmp_path, schedule, jump):
    run(tmp_path, schedule=schedule, epochs=2, checkpoint=Checkpoint())
    with pytest.raises(UserError) as caught:
        run(tmp_path, schedule=schedule, epochs=4)
    message = str(caught.value)
    assert (
        f"epochs: 2 in the checkpoint, 4 now, by which the factor of the {schedule.kind} schedule jumps from" in message
    )
    assert jump in message
    end = "it stays at 0 after epoch 2, and nothing more is learned); start over"
    if schedule.factor(8, 8):
        end = "keep its end with --set schedule.epochs=2, after which the factor stays at 4e-06); start over"
    assert end in message
    assert "--accept epochs" in message
    kept = run(tmp_path, schedule=dataclasses.replace(schedule, epochs=2), epochs=3, checkpoint=Checkpoint())
    assert kept.history["learning_rate"][2] == kept.history["learning_rate"][1]
    result = run(tmp_path, Start(accept=("epochs", "schedule")), schedule=schedule, epochs=4, checkpoint=Checkpoint())
    assert result.history["learning_rate"][2] == kept.history["learning_rate"][1]
    assert result.history["learning_rate"][3] == pytest.approx(1e-2 * schedule.factor(15, 16))


def test_epochs_may_differ_where_the_learning_rate_goes_on_as_it_was(tmp_path):
    """Raise them before the first step, after the last one, with a schedule of its own end, and with one without."""
    cosine = {"schedule": Cosine(final_factor=0.5), "checkpoint": Checkpoint()}
    run(tmp_path / "a", epochs=0, **cosine)
    run(tmp_path / "a", epochs=3, **cosine)
    assert run(tmp_path / "a", epochs=1, **cosine).steps == 12
    ending = {"schedule": Cosine(epochs=2), "checkpoint": Checkpoint()}
    run(tmp_path / "b", epochs=1, **ending)
    assert run(tmp_path / "b", epochs=3, **ending).history["learning_rate"][1:] == [0.0, 0.0]
    endless = {"schedule": StepDecay(every_steps=4), "checkpoint": Checkpoint()}
    run(tmp_path / "c", epochs=1, **endless)
    run(tmp_path / "c", epochs=2, **endless)


def test_other_data_may_be_accepted_but_not_another_model(tmp_path):
    run(tmp_path, epochs=1)
    other = Data((X + 1, Y), validation=0.2)
    with pytest.raises(UserError, match=r"continue anyway with --accept data.train"):
        run(tmp_path, data=other)
    run(tmp_path, Start(accept=("data.train",)), data=other, epochs=2)
    with pytest.raises(
        UserError, match=r"model.layers.0.units: 8 in the checkpoint, 9 now.*; start .*another folder with --out$"
    ):
        run(tmp_path, model=[nn.Dense(9, "tanh"), nn.Dense(3)])  # to accept it would not help
    with pytest.raises(UserError, match=r"is of another run \(model/dense_1/weight is <f4 \(5, 8\) in the checkpoint"):
        run(tmp_path, Start(accept=("model", "data")), model=[nn.Dense(9, "tanh"), nn.Dense(3)])


def test_validation_is_neither_added_nor_given_up(tmp_path):
    """The columns of the history would have gaps, so to accept it would not help."""
    for name, before, after in (("a", 0.2, None), ("b", None, 0.2)):
        run(tmp_path / name, epochs=1, data=Data((X, Y), validation=before))
        with pytest.raises(UserError, match=r"data.validation: .*another folder with --out$"):
            run(tmp_path / name, epochs=2, data=Data((X, Y), validation=after))
        with pytest.raises(UserError, match=r"the costs of validation, but this run has (some|no) data for it"):
            run(tmp_path / name, Start(accept=("data",)), epochs=2, data=Data((X, Y), validation=after))


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


def test_a_schedule_that_is_a_function_goes_on_with_the_same_source_only(tmp_path):
    def falling(step, steps):
        return 1 - step / steps

    run(tmp_path, schedule=falling, epochs=1)
    run(tmp_path, schedule=falling, epochs=2)
    with pytest.raises(UserError, match=r"schedule.custom: .*falling' in the checkpoint, .*lambda>' now"):
        run(tmp_path, schedule=lambda step, steps: 1.0, epochs=3)

    def falling(step, steps):
        return 1 - (step / steps) ** 2

    with pytest.raises(UserError, match=r"schedule: the source of its function has changed since .*--accept schedule"):
        run(tmp_path, schedule=falling, epochs=3)
    assert run(tmp_path, Start(accept=("schedule",), quiet=True), schedule=falling, epochs=3).steps == 12
