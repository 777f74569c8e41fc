"""The command eval, with its report."""

import re

import numpy as np

from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.metrics import AUC, F1
from dbp.nn import Dense
from dbp.optim import Adam
from dbp.parallel import OneProcess
from dbp.saving.start import Start
from dbp.training.fit import train
from tests.small_data import X, Y


def test_a_report_follows_the_line_of_values(small_run, run_command):
    folder, _ = small_run
    code, out = run_command("eval", folder, "dbp:digits-test")[:2]
    assert code == 0
    reported = run_command("eval", folder, "dbp:digits-test", "--report")[1]
    assert reported.startswith(out.rstrip("\n") + "\n\nclass ")
    lines = reported.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert [line.split()[0] for line in lines[3:13]] == [str(number) for number in range(10)]
    accuracy = re.search(r"accuracy ([\d.]+)", out).group(1)
    assert re.search(rf"^micro average +{accuracy} ", reported, re.MULTILINE)
    counts = [[int(cell) for cell in line.split()[1:]] for line in lines[-10:]]
    assert sum(map(sum, counts)) == 359
    assert f"{sum(counts[i][i] for i in range(10)) / 359:.4f}" == accuracy


def test_the_line_above_a_report_leaves_single_classes_to_the_table(tmp_path, run_command):
    metrics = (F1(average="macro", per_class=True), AUC())
    data = Data((X, Y))
    settings = Settings(
        [Dense(3)], "cross_entropy", data, Adam(3e-2), 2, 12, metrics=metrics, out=str(tmp_path / "run")
    )
    train(settings, OneProcess(), Start(quiet=True))
    np.savez(tmp_path / "d.npz", inputs=X, targets=Y)
    assert "f1 2 " in run_command("eval", tmp_path / "run", tmp_path / "d.npz")[1]
    line, _, head = run_command("eval", tmp_path / "run", tmp_path / "d.npz", "--report")[1].splitlines()[:3]
    assert re.findall(r"([a-z]\w*(?: \d)?) \d+[.]", line) == ["cost", "f1", "auc", "auc 0", "auc 1", "auc 2"]
    assert head.split() == ["class", "precision", "recall", "f1", "examples"]
