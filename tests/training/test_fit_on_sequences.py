"""Runs on sequences of unequal length: what is filled in has no influence, from training to predictions."""

import h5py
import numpy as np
import pytest

import dbp
from dbp.data import ArrayDataset, Ragged
from dbp.errors import UserError
from dbp.insight import neurons
from dbp.nn import (
    GRU,
    Attention,
    BatchNorm,
    Conv1d,
    Dense,
    Embedding,
    GlobalAveragePool,
    GlobalMaxPool,
    Position,
    Sequential,
    use,
)
from dbp.optim import Newton
from tests.jobs import dbp as command
from tests.jobs import digest, mpirun

RNG = np.random.default_rng(1)
N, LONGEST = 60, 21
LENGTHS = RNG.integers(1, LONGEST + 1, N)
WORDS = RNG.integers(1, 6, (N, LONGEST))
THERE = np.arange(LONGEST) < LENGTHS[:, None]
Y = (WORDS[np.arange(N), LENGTHS - 1] > 3).astype(int)
MODELS = {
    "recurrent": [Embedding(6, 4), GRU(5, sequences=False), Dense(2)],
    "attention": [Embedding(6, 4), Position(length=24), Attention(2), GlobalAveragePool(), Dense(2)],
    "convolution": [Embedding(6, 4), Conv1d(4, 3, padding="same"), BatchNorm(), GlobalMaxPool(), Dense(2)],
}


def rows(array):
    return [row[:length] for row, length in zip(array, LENGTHS, strict=True)]


def fit(model, data, **settings):
    settings = {"epochs": 2, "batch_size": 20, "optimizer": "adam", **settings}
    return dbp.fit(model=model, loss="cross_entropy", data=data, seed=1, quiet=True, **settings)


def filled(fill):
    return ArrayDataset(np.where(THERE, WORDS, fill), Y, mask=THERE)


def same_weights(one, other):
    return all(np.array_equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize("name", MODELS)
def test_any_fill_trains_to_the_same_bits(name):
    """The fill is no entry of the embedding here, and not even a number."""
    runs = [fit(MODELS[name], filled(fill)) for fill in (0.0, 5.0, np.nan, -1e9)]
    assert all(same_weights(runs[0], run) for run in runs[1:])
    assert all(run.history["cost"] == runs[0].history["cost"] for run in runs[1:])


def test_any_fill_gives_the_same_bits_with_second_derivatives():
    runs = [fit(MODELS["recurrent"], filled(fill), optimizer=Newton(), batch_size="all") for fill in (0, 3)]
    assert same_weights(*runs)


@pytest.mark.parametrize("name", MODELS)
def test_ragged_rows_train_as_masked_ones_do(name):
    """They are padded to other lengths, so the last bits may differ."""
    masked = fit(MODELS[name], filled(0.0), dtype="float64")
    ragged = fit(MODELS[name], ArrayDataset(Ragged.of(rows(WORDS)), Y), dtype="float64")
    for path, values in masked.weights.items():
        np.testing.assert_allclose(ragged.weights[path], values, rtol=1e-8, atol=1e-10)


def test_every_position_with_a_target_of_its_own():
    """The cost is the mean over all positions, and an example of its own gives what it gives among longer ones."""
    model, labels = [Embedding(6, 4), GRU(5), Dense(3)], RNG.integers(0, 3, (N, LONGEST))
    data = ArrayDataset(Ragged.of(rows(WORDS)), Ragged.of(rows(labels)))
    result = fit(model, data, dtype="float64")
    z = [Sequential(*model)(use(result.weights), one[None])[0] for one in rows(WORDS)]
    pairs = zip(z, rows(labels), strict=True)
    losses = [np.log(np.exp(one).sum(axis=1)) - one[np.arange(len(y)), y] for one, y in pairs]
    found = neurons(model, "cross_entropy", result.weights, data)
    assert found.cost == pytest.approx(np.concatenate(losses).mean(), rel=1e-9)
    assert found.examples == N


def test_masked_positions_with_targets_need_no_weights():
    """Targets in masked positions may be anything, and the cost is the one of ragged rows."""
    model, labels = [Embedding(6, 4), GRU(5), Dense(3)], RNG.integers(0, 3, (N, LONGEST))
    masked = ArrayDataset(np.where(THERE, WORDS, 0.0), np.where(THERE, labels, -100), mask=THERE)
    result = fit(model, masked, dtype="float64")
    ragged = fit(model, ArrayDataset(Ragged.of(rows(WORDS)), Ragged.of(rows(labels))), dtype="float64")
    assert result.history["cost"] == pytest.approx(ragged.history["cost"], rel=1e-9)
    assert neurons(model, "cross_entropy", result.weights, masked).cost > 0


@pytest.mark.parametrize(
    ("layers", "targets", "message"),
    [
        (
            [Conv1d(4, 2, stride=2), Dense(3)],
            "positions",
            r"must be integers of shape \(12,\) per example, as outputs have",
        ),
        ([GRU(5, sequences=False), Dense(3)], "positions", "must be one integer per example, but are int64 of shape"),
        ([Position(), GRU(5, sequences=False), Dense(2)], "examples", "position_1: length must be set for inputs with"),
    ],
)
def test_models_that_do_not_fit_are_refused_before_the_first_step(layers, targets, message):
    y = Ragged.of(rows(WORDS % 3)) if targets == "positions" else Y
    with pytest.raises(UserError, match=message):
        fit([Embedding(6, 4), *layers], ArrayDataset(Ragged.of(rows(WORDS)), y))


def test_figures_of_neurons_count_valid_positions_alone():
    model = [Embedding(6, 4), Dense(3, "tanh"), GlobalAveragePool(), Dense(2)]
    data = ArrayDataset(Ragged.of(rows(WORDS)), Y)
    result = fit(model, data, dtype="float64")
    found = neurons(model, "cross_entropy", result.weights, data)
    w = result.weights
    table = np.tanh(w["embedding_1/weight"] @ w["dense_1/weight"] + w["dense_1/bias"])
    means = [table[one].mean(axis=0) for one in rows(WORDS)]
    np.testing.assert_allclose(found["dense_1"].mean_activation, np.mean(means, axis=0), rtol=1e-9)


CONFIG = """
out = "{out}"
loss = "cross_entropy"
epochs = 2
batch_size = 16
shards = 4
[data]
train = "{data}"
validation = 0.25
inputs = "words"
targets = "{targets}"
offsets = "offsets"
[optimizer]
kind = "adam"
[checkpoint]
every_steps = 2
[model]
layers = [
    {{ kind = "embedding", entries = 6, units = 4 }},
    {{ kind = "position", length = 24 }},
    {{ kind = "residual", layers = [{{ kind = "conv1d", filters = 4, size = 3, padding = "same" }}] }},
    {{ kind = "batch_norm" }},
    {{ kind = "attention", heads = 2 }},
    {{ kind = "dropout", rate = 0.1 }},
    {{ kind = "gru", units = 5, sequences = {sequences} }},
    {{ kind = "dense", units = 3 }},
]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("ragged") / "sequences.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("words", data=np.concatenate(rows(WORDS)), chunks=(50,), compression="gzip", shuffle=True)
        file["tags"] = np.concatenate(rows(WORDS)) % 3
        file["offsets"], file["classes"] = np.cumsum([0, *LENGTHS]), Y
    return path


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["classes", "tags"])
def test_the_same_bits_on_any_number_of_ranks(file, tmp_path, targets):
    """Also when resumed; evaluation and predictions go through the same data."""
    digests = set()
    for ranks in (1, 2, 3):
        out = tmp_path / f"run{ranks}"
        sequences = "true" if targets == "tags" else "false"
        config = tmp_path / f"{ranks}.toml"
        config.write_text(CONFIG.format(out=out, data=file, targets=targets, sequences=sequences))
        if ranks == 3:
            stopped = mpirun(2, "-m", "dbp", "train", config, "--set", "epochs=1")
            assert stopped.code == 0, stopped.text
        outcome = mpirun(ranks, "-m", "dbp", "train", config)
        assert outcome.code == 0, outcome.text
        digests.add(digest(out))
    assert len(digests) == 1
    evaluated = command("eval", out, file)
    assert evaluated.code == 0, evaluated.text
    predicted = mpirun(2, "-m", "dbp", "predict", out, file, tmp_path / "out.h5")
    assert predicted.code == 0, predicted.text
    with h5py.File(tmp_path / "out.h5") as found:
        classes, outputs = found["classes"][:], found["outputs"][:]
    if targets == "tags":
        assert outputs.shape == (N, 24, 3)
        there = np.arange(24) < LENGTHS[:, None]
        np.testing.assert_array_equal(np.isfinite(outputs).all(axis=2), there)
        np.testing.assert_array_equal(classes == -1, ~there)
        accuracy = np.mean(classes[:, :LONGEST][THERE] == WORDS[THERE] % 3)
    else:
        accuracy = np.mean(classes == Y)
    assert f"accuracy {100 * accuracy:.2f}" in evaluated.out or f"{accuracy:.4f}" in evaluated.out, evaluated.out
