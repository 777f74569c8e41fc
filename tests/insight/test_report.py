"""Commands of insight: the same bits on any number of ranks, and mistakes in one line."""

import h5py
import numpy as np
import pytest

from tests.jobs import dbp, mpirun


def figures(path):
    with h5py.File(path) as file:
        found = {f"{layer}/{name}": file[layer][name][:].tobytes() for layer in file for name in file[layer]}
        return found | {key: float(value) for key, value in file.attrs.items()}


@pytest.mark.slow
def test_neurons_have_the_same_bits_on_any_number_of_ranks(trained, tmp_path):
    words = ("neurons", trained / "run", "dbp:digits-test", "--top", 2, "--out")
    alone = dbp(*words, tmp_path / "1.h5")
    assert alone.code == 0, alone.text
    layers = ("dense_1: 16 units, ", "dense_2: 10 units, none dead")
    lines = alone.out.splitlines()
    assert [line.startswith(layers) for line in lines].count(True) == 2
    assert max(map(len, lines)) <= 100
    with h5py.File(tmp_path / "1.h5") as file:
        assert sorted(file["dense_1"]) == ["dead", "mean_activation", "mean_magnitude", "signed_sum", "silent"]
        strongest = int(np.argmax(file["dense_2/mean_magnitude"]))
        assert file.attrs["examples"] == 359
    assert lines[lines.index(layers[1]) + 2].split()[0] == str(strongest)
    for ranks in (2, 3):
        outcome = mpirun(ranks, "-m", "dbp", *words, tmp_path / f"{ranks}.h5")
        assert outcome.out.splitlines()[:-1] == lines[:-1]
        assert figures(tmp_path / f"{ranks}.h5") == figures(tmp_path / "1.h5")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_what_if_on_several_ranks(trained):
    changes = ("--what-if", "dense_1/weight[3,7]=+0.01", "--what-if", "dense_2/bias[1]=0.5")
    alone = dbp("neurons", trained / "run", "dbp:digits-test", *changes)
    assert alone.code == 0, alone.text
    assert mpirun(2, "-m", "dbp", "neurons", trained / "run", "dbp:digits-test", *changes).out == alone.out
    lines = {line.split("  ")[0]: line.split()[-2:] for line in alone.out.splitlines() if line}
    assert lines["dense_2/bias[1]"][1] == "0.5"
    now, new = map(float, lines["dense_1/weight[3,7]"])
    assert new - now == pytest.approx(0.01)
    cost = float(lines["now"][-1])
    told = dbp("eval", trained / "run", "dbp:digits-test").out
    assert f"cost {cost:.4f}" in told
    both, real = float(lines["first and second order"][0]), float(lines["real"][0])
    assert both == pytest.approx(real, rel=0.05)
    assert float(lines["real"][1]) == pytest.approx(cost + real)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--what-if", "dense_1/wieght[0,0]=1"],
            2,
            "unknown parameter 'dense_1/wieght'; did you mean 'dense_1/weight'?",
        ),
        (["--what-if", "dense_1/bias[0]=1", "--out", "x.h5"], 2, "--out is for the figures of neurons"),
        (["--top", "0"], 2, "--top must be at least 1, but is 0"),
        (["--out", "there.h5"], 2, "there.h5 exists; choose another name or pass --overwrite"),
        (["--out", "nowhere/x.h5"], 74, "nowhere/x.h5 cannot be written: No such file or directory"),
    ],
)
def test_mistakes_are_told_in_one_line(trained, tmp_path, words, code, message):
    (tmp_path / "there.h5").write_text("kept")
    outcome = dbp("neurons", trained / "run", "dbp:digits-test", *words, cwd=tmp_path)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (code, "", 1)
    assert message in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["there.h5"]
    assert (tmp_path / "there.h5").read_text() == "kept"


def test_figures_of_neurons_replace_a_file_only_if_told(trained, tmp_path):
    (tmp_path / "there.h5").write_text("old")
    words = ("neurons", trained / "run", "dbp:digits-test", "--out", "there.h5", "--overwrite")
    assert dbp(*words, cwd=tmp_path).out.endswith("all figures written to there.h5\n")
    assert figures(tmp_path / "there.h5")["examples"] == 359
