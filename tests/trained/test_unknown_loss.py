"""A model whose loss is Python code that only its script knew."""

import numpy as np
import pytest

import dbp
from dbp import nn
from dbp.autodiff import square
from dbp.cli import main
from tests.small_data import X


def test_model_without_its_loss_predicts_and_is_not_evaluated(tmp_path, capsys):
    targets = X[:, :2] * 2
    np.savez(tmp_path / "data.npz", inputs=X, targets=targets)
    model = dbp.fit(
        model=[nn.Dense(2)],
        loss=lambda outputs, targets: square(outputs - targets),
        data=(X, targets),
        optimizer="adam",
        epochs=1,
        batch_size=12,
        out=tmp_path / "run",
        quiet=True,
    )
    again = dbp.load(tmp_path / "run")
    assert np.array_equal(again.predict(X), model.predict(X))
    data, out = str(tmp_path / "data.npz"), str(tmp_path / "out.csv")
    assert main(["predict", str(tmp_path / "run"), data, out]) == 0
    assert main(["summary", str(tmp_path / "run")]) == 0
    assert "dense_1" in capsys.readouterr().out
    with pytest.raises(dbp.UserError, match="lambda>', without which its model predicts"):
        again.evaluate((X, targets))
    assert main(["eval", str(tmp_path / "run"), data]) == 2
    with_loss = dbp.load(tmp_path / "run", loss="mean_squared_error")
    assert with_loss.evaluate((X, targets))["cost"] == pytest.approx(np.mean((model.predict(X) - targets) ** 2))
