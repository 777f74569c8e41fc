"""The estimators are scikit-learn's: its own checks, and its tools for pipelines and searches."""

import sys
import warnings

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.optim import SGD, Adam
from tests.jobs import PROGRAMS, mpirun
from tests.jobs import run as run_program
from tests.small_data import X, Y

pytest.importorskip("sklearn")
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator, check_sample_weight_equivalence_on_dense_data

from dbp.sklearn import Classifier, Regressor

NAMES = np.array(["ant", "bee", "cat"])[Y]
# Mini-batches fall otherwise, and steps are others, where one row of weight 2 stands for two rows.
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": "mini-batches are drawn from rows, whatever their weight"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_it_passes_the_checks_of_scikit_learn(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that are skipped
        estimator = kind((20,), learning_rate=1e-2, epochs=15)
        found = check_estimator(estimator, expected_failed_checks=EXPECTED, on_fail=None)
    failed = {one["check_name"]: one["exception"] for one in found if one["status"] == "failed"}
    assert failed == {}
    assert sum(one["status"] == "passed" for one in found) > 40


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_a_weight_is_as_good_as_rows_on_all_rows(kind):
    estimator = kind((6,), optimizer="lbfgs", batch_size="all", epochs=15)
    check_sample_weight_equivalence_on_dense_data(kind.__name__, estimator)


def test_a_classifier_learns_names_of_classes():
    found = Classifier((16,), learning_rate=1e-2, epochs=60).fit(X, NAMES)
    assert found.classes_.tolist() == ["ant", "bee", "cat"]
    assert found.score(X, NAMES) > 0.95
    assert set(found.predict(X)) == {"ant", "bee", "cat"}
    np.testing.assert_allclose(found.predict_proba(X).sum(axis=1), 1)
    assert (len(found.loss_curve_), found.n_iter_) == (60, 60)
    assert found.loss_curve_[-1] < found.loss_curve_[0]
    assert found.model_.weights["dense_1/weight"].dtype == np.float64
    assert Classifier((4,), epochs=1).fit(X.astype(np.float32), Y).predict_proba(X).dtype == np.float32


def test_two_classes_may_share_an_output():
    found = Classifier((16,), loss="binary_cross_entropy", learning_rate=1e-2, epochs=60).fit(X, NAMES == "ant")
    assert found.predict_proba(X).shape == (60, 2)
    assert found.score(X, NAMES == "ant") > 0.95
    assert found.predict(X).dtype == bool


def test_class_weights_are_weights_of_rows():
    plain = {"layers": (4,), "epochs": 2, "shards": 1}
    table = {"ant": 3.0, "bee": 1.0, "cat": 0.5}
    one = Classifier(**plain, class_weight=table).fit(X, NAMES)
    other = Classifier(**plain).fit(X, NAMES, sample_weight=[table[name] for name in NAMES])
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
    balanced = Classifier(**plain, class_weight="balanced").fit(X, NAMES)
    assert not np.array_equal(balanced.predict_proba(X), one.predict_proba(X))


def test_a_regressor_predicts_numbers_in_their_units():
    targets = 1e4 + 300 * X[:, :2]
    found = Regressor((16,), learning_rate=1e-2, epochs=60).fit(X, targets)
    assert found.score(X, targets) > 0.9
    assert found.predict(X).shape == (60, 2)
    assert Regressor((16,), epochs=2).fit(X, targets[:, 0]).predict(X).shape == (60,)


def test_epochs_one_by_one_are_the_epochs_of_one_fit():
    whole = Classifier((6,), epochs=3, shards=2).fit(X, NAMES)
    parts = Classifier((6,), shards=2)
    for _ in range(3):
        parts.partial_fit(X, NAMES, classes=["cat", "ant", "bee"])
    np.testing.assert_array_equal(parts.predict_proba(X), whole.predict_proba(X))
    assert parts.loss_curve_ == whole.loss_curve_
    parts.partial_fit(X[:7], NAMES[:7])  # of fewer rows, and not of all classes
    assert parts.n_iter_ == 4
    assert parts.predict_proba(X).shape == (60, 3)


def test_what_partial_fit_refuses():
    with pytest.raises(ValueError, match=r"the first partial_fit needs classes"):
        Classifier().partial_fit(X, NAMES)
    begun = Classifier((4,)).partial_fit(X, NAMES, classes=["ant", "bee", "cat"])
    with pytest.raises(ValueError, match=r"did not name: \['dog'\]"):
        begun.partial_fit(X[:1], ["dog"])
    with pytest.raises(ValueError, match="must be those of the first call"):
        begun.partial_fit(X, NAMES, classes=["ant", "bee"])
    with pytest.raises(ValueError, match="two classes at least"):
        Classifier().fit(X, np.zeros(len(X)))


def test_pipelines_and_searches():
    search = GridSearchCV(
        make_pipeline(MinMaxScaler(), Classifier((8,), epochs=4)),
        {
            "classifier__learning_rate": [1e-2, 1e-4],
            "classifier__layers": [(4,), [nn.Dense(4, "tanh"), nn.Dropout(0.1)]],
        },
        cv=2,
    )
    search.fit(X, NAMES)
    assert search.best_params_["classifier__learning_rate"] == 1e-2
    inputs, targets = load_diabetes(return_X_y=True)
    assert cross_val_score(Regressor(epochs=20), inputs, targets, cv=2).mean() > 0.3
    with pytest.raises(ValueError, match="Invalid parameter 'rate'"):
        Classifier().set_params(rate=1)


def test_layers_optimizers_and_images():
    images = X.astype(np.float32)[:, :4].reshape(-1, 2, 2, 1)
    found = Classifier([nn.Conv2d(3, 2, "relu"), nn.Flatten()], optimizer=SGD(0.1, momentum=0.9), epochs=2)
    assert found.fit(images, NAMES).predict(images).shape == (60,)
    adam = Regressor(optimizer=Adam(1e-2), learning_rate=1e-3, epochs=1).fit(X, X[:, 0])
    assert adam.model_.history["learning_rate"] == [1e-3]
    with pytest.raises(UserError, match="optimizer 'lbfgs' has no learning rate; leave learning_rate out"):
        Regressor(optimizer="lbfgs", learning_rate=1.0).fit(X, X[:, 0])
    with pytest.raises(UserError, match="layers must be a list of layers and numbers of units"):
        Regressor(5).fit(X, X[:, 0])
    with pytest.raises(UserError, match="batch_size must be a whole number or 'all', but is 'half'"):
        Regressor(batch_size="half").fit(X, X[:, 0])


CONFIG = """
loss = "cross_entropy"
epochs = 2
batch_size = 20
optimizer = { kind = "sgd", learning_rate = 0.1 }
model = { layers = [{ kind = "dense", units = 5, activation = "tanh" }, { kind = "dense", units = 3 }] }
"""


def test_a_config_has_what_is_not_said(tmp_path):
    (tmp_path / "net.toml").write_text(CONFIG)
    found = Classifier(config=tmp_path / "net.toml").fit(X, NAMES)
    assert (found.n_iter_, found.model_.settings.optimizer) == (2, SGD(0.1))
    assert found.model_.settings.dtype == "float32"
    assert Classifier(config=tmp_path / "net.toml", epochs=3).fit(X, NAMES).n_iter_ == 3
    assert [path.name for path in tmp_path.iterdir()] == ["net.toml"]  # no folder of a run
    with pytest.raises(UserError, match="layers and config exclude each other"):
        Classifier((3,), config=tmp_path / "net.toml").fit(X, NAMES)


def test_it_has_the_same_bits_on_any_number_of_ranks_and_says_nothing(tmp_path):
    program, root = PROGRAMS / "sklearn_estimators.py", {"PYTHONPATH": str(PROGRAMS.parent.parent)}
    alone = run_program(sys.executable, program, cwd=tmp_path, env=root)
    two = mpirun(2, program, cwd=tmp_path, env=root)
    assert (alone.code, alone.err) == (two.code, two.err) == (0, "")
    assert alone.out == two.out
    assert alone.out.startswith("digest ")
    assert alone.out.count("\n") == 1
