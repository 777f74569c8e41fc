"""Test the losses of several targets by name."""

import pytest

from dbp import nn
from dbp.errors import UserError


def test_losses_are_given_in_all_forms():
    def own(outputs, targets):
        return outputs[:, 0] - targets

    loss = nn.as_loss(
        {
            "a": "huber",
            "b": nn.CrossEntropy(),
            "c": {"kind": "huber", "delta": 2.0, "weight": 0.5},
            "d": nn.TargetLoss("mean_squared_error", 2),
            "e": own,
        }
    )
    assert loss.loss_of("a") == nn.Huber()
    assert loss.parts["c"] == nn.TargetLoss(nn.Huber(2.0), 0.5)
    assert loss.loss_of("d") == nn.MeanSquaredError()
    assert loss.loss_of("e").kind == "own"
    assert loss.weights == (1.0, 1.0, 0.5, 2.0, 1.0)
    assert nn.as_loss(loss) is loss
    assert nn.losses_by_target(loss)["a"] == nn.Huber()
    assert nn.losses_by_target(nn.Huber()) == {"": nn.Huber()}
    changed = loss.with_losses({"a": nn.MeanAbsoluteError()})
    assert (changed.loss_of("a"), changed.loss_of("b")) == (nn.MeanAbsoluteError(), nn.CrossEntropy())


def test_a_single_output_is_that_of_the_only_target():
    loss = nn.as_loss({"a": "huber"})
    assert loss.named(3) == {"a": 3}
    assert loss.named({"a": 3, "b": 4}) == {"a": 3, "b": 4}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "must have a loss for each target"),
        ({"a b": "huber"}, "must be an identifier"),
        ({"kind": "huber"}, "must not have the name kind"),
        ({"a": "hubert"}, "did you mean 'huber'"),
        ({"a": {"kind": "hubert"}}, "unknown loss of a: 'hubert'"),
        ({"a": {"kind": "huber", "width": 1}}, "loss of a: .*unexpected keyword argument 'width'"),
        ({"a": {"kind": "huber", "weight": -1}}, "weight must be at least 0"),
        ({"a": {"kind": "huber", "weight": 0}}, "nothing is trained"),
    ],
)
def test_wrong_losses_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        nn.as_loss(given)
