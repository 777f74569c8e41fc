"""Test the form of outputs: which loss takes which output for which target."""

from dataclasses import replace

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.reading.output_form import JointForm, OutputForm, output_form

PLAIN = nn.InitialParameters({}, {}, {}, 0, np.dtype("float32"), (2,))
BOTH = replace(
    PLAIN,
    output_shape={"a": (2,), "b": (3,)},
    output_positions={"a": 0, "b": 0},
    positions_kept={"a": 0, "b": 0},
    masked_inputs={"a": None, "b": None},
)
HUBER, LOSSES = nn.Huber(), nn.as_loss({"a": "huber", "b": "mean_squared_error"})


def test_targets_without_a_name_have_one_loss():
    assert output_form(HUBER, PLAIN, ["inputs", "targets"]) == OutputForm(HUBER, (2,), 0, None)
    assert output_form(HUBER, PLAIN, None).loss is HUBER


def test_named_targets_have_a_loss_each():
    form = output_form(LOSSES, BOTH, ["inputs.x", "targets.b", "targets.a", "weights"])
    assert isinstance(form, JointForm)
    assert list(form.forms) == ["b", "a"]  # in the order of the data
    assert form.shape == {"b": (3,), "a": (2,)}
    single = output_form(HUBER, PLAIN, ["inputs", "targets.energy"])  # a single output of a single target
    assert single.shape == {"energy": (2,)}
    assert single.loss == nn.as_loss({"energy": HUBER})


@pytest.mark.parametrize(
    ("loss", "initial", "targets", "message"),
    [
        (HUBER, PLAIN, ["a", "b"], "must have a loss for each of the targets a, b, but is huber; set it to"),
        (LOSSES, PLAIN, [""], "the targets of the data have no names; name them, such as data.targets = { a = "),
        (LOSSES, BOTH, ["a", "b", "c"], "has none for the target c; add it"),
        (LOSSES, BOTH, ["a"], "unknown target of the loss 'b'; valid: a"),
        (LOSSES, PLAIN, ["a", "b"], "the model returns one array, but there are the targets a, b"),
        (HUBER, BOTH, [""], "the model returns outputs by name \\(a, b\\), but the loss is huber alone"),
        (HUBER, BOTH, ["c"], "unknown output of the model for the target 'c'; valid: a, b"),
    ],
)
def test_what_does_not_go_together_is_refused(loss, initial, targets, message):
    with pytest.raises(UserError, match=message):
        output_form(loss, initial, ["inputs", *(f"targets.{name}" if name else "targets" for name in targets)])
