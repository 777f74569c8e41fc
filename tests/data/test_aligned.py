"""Other data than that of the training: brought into the same order by its names, or refused."""

import numpy as np
import pytest

from dbp.data import ArrayDataset, ColumnMeaning, aligned, meaning_of, meaning_text, parse_meaning, scalings_of
from dbp.errors import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((9, 3)).astype(np.float32), np.array([0, 1, 2] * 3)
TRAIN = meaning_of(ArrayDataset(X, Y, input_names=["a", "b", "c"], classes=["ant", "bee", "cat"]))


def remedy(of_training, of_data):
    return f"say {of_training} for {of_data}"


def read(data, rows=slice(None), reference=TRAIN):
    return aligned(data, reference, remedy).read(rows)


def test_data_of_the_same_meaning_is_the_same_object():
    for data in (
        ArrayDataset(X, Y, input_names=["a", "b", "c"], classes=["ant", "bee", "cat"]),
        ArrayDataset(X, Y % 2, input_names=["a", "b", "c"], classes=["ant", "bee"]),
    ):
        assert aligned(data, TRAIN, remedy) is data
    named = ArrayDataset(X, Y, classes=["x", "y", "z"])
    assert aligned(named, {}, remedy) is named


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        (ArrayDataset(X, Y), "names of inputs (a, b, c), classes of targets (ant, bee, cat)"),
        (ArrayDataset(X, Y, input_names=["a", "b", "c"]), "classes of targets (ant, bee, cat)"),
        (ArrayDataset(X, Y, classes=["ant", "bee", "cat"]), "names of inputs (a, b, c)"),
    ],
)
def test_names_that_the_data_does_not_have_are_said_to_be_not_compared(data, missing):
    found = aligned(data, TRAIN, remedy)
    (warning,) = found.warnings
    assert warning.startswith(f"the arrays: not compared: {missing}, which this data does not name; they must be in ")
    np.testing.assert_array_equal(found.read(slice(None)).inputs, X)
    np.testing.assert_array_equal(found.read(slice(None)).targets, Y)
    assert aligned(data, meaning_of(ArrayDataset(X, Y)), remedy) is data


def test_columns_in_another_order_are_reordered():
    data = ArrayDataset(X[:, [2, 0, 1]], Y, input_names=["c", "a", "b"])
    for rows in (slice(2, 7), np.array([8, 0, 3])):
        np.testing.assert_array_equal(read(data, rows).inputs, X[rows])
    found = aligned(data, TRAIN, remedy)
    assert (len(found), found.input_shape, found.scale, found.name) == (9, (3,), None, "the arrays")
    assert read(data).inputs.flags.c_contiguous


def test_columns_of_targets_with_the_names_of_the_classes_are_those_of_the_classes():
    order = [1, 2, 0]
    columns = np.eye(3, dtype=np.float32)[Y]
    data = ArrayDataset(X, columns[:, order])
    data.meaning = {**data.meaning, "targets": ColumnMeaning("floats", names=("bee", "cat", "ant"))}
    np.testing.assert_array_equal(read(data).targets, columns)
    # Class numbers after a training with a named column for each class.
    numbers = ArrayDataset(X, Y, classes=["bee", "cat", "ant"])
    reference = {**TRAIN, "targets": ColumnMeaning("floats", names=("ant", "bee", "cat"))}
    np.testing.assert_array_equal(read(numbers, reference=reference).targets, [1, 2, 0] * 3)


def test_targets_and_their_weights_are_reordered_together():
    reference = {"targets": ColumnMeaning("floats", names=("u", "v"))}
    values, weights = RNG.standard_normal((9, 2)), RNG.random((9, 2))
    data = ArrayDataset(X, values[:, ::-1], weights[:, ::-1])
    data.meaning["targets"] = ColumnMeaning("floats", names=("v", "u"))
    found = read(data, reference=reference)
    np.testing.assert_array_equal(found.targets, values)
    np.testing.assert_array_equal(found.weights, weights)


def test_classes_in_another_order_are_renumbered():
    for targets in (Y, Y.astype(np.uint8), Y.astype(np.float64), Y[:, None], np.tile(Y[:, None], 5)):
        moved = np.array([1, 2, 0])[targets.astype(int)]
        assert read(ArrayDataset(X, moved, classes=["cat", "ant", "bee"])).targets.tolist() == targets.tolist()
    fewer = ArrayDataset(X, Y % 2, classes=["cat", "ant"])
    assert read(fewer).targets.tolist() == np.where(Y % 2, 0, 2).tolist()
    probabilities = RNG.dirichlet((1, 1), 9)
    expected = np.zeros((9, 3))
    expected[:, [2, 0]] = probabilities
    np.testing.assert_array_equal(read(ArrayDataset(X, probabilities, classes=["cat", "ant"])).targets, expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ArrayDataset(X, Y, input_names=["a", "b", "d"]), "inputs have the columns a, b, d, but those .* are a, b, c"),
        (ArrayDataset(X, Y, input_names=["a", "b", "b"]), "inputs have the columns a, b, b, but those .* are a, b, c"),
        (ArrayDataset(X[:, :2], Y, input_names=["a", "b"]), "inputs have the columns a, b, but those .* are a, b, c"),
        (ArrayDataset(X, Y, classes=["gnu", "dog", "elk"]), "the training data has no class gnu, dog, elk; it has ant"),
        (ArrayDataset(X, Y, classes=[]), r"targets are numbers.* are classes \(ant, bee, cat.*--classes"),
        (
            ArrayDataset(X, Y, scale=0.5),
            r"are floats with scale 0.5, but those .* floats with scale 1; say 1.0 for ",
        ),
        (
            ArrayDataset(X.astype(int), Y),
            "are integers with scale 1, but those .* floats with scale 1; say 1.0 for ",
        ),
    ],
)
def test_what_does_not_mean_the_same_is_refused(data, message):
    with pytest.raises(UserError, match=f"^the arrays: .*{message}") as caught:
        aligned(data, TRAIN, remedy)
    assert "\n" not in str(caught.value)


def test_a_class_that_is_named_but_does_not_occur_may_be_unknown():
    more = ["dog", "cat", "ant", "bee", "elk"]
    moved, eye = np.array([2, 3, 1])[Y], np.eye(5, dtype=np.float32)
    assert read(ArrayDataset(X, moved, classes=more)).targets.tolist() == Y.tolist()
    np.testing.assert_array_equal(read(ArrayDataset(X, eye[moved], classes=more)).targets, np.eye(3)[Y])
    for targets in (np.where(np.arange(9) == 4, 4, moved), eye[np.where(np.arange(9) == 4, 4, moved)]):
        with pytest.raises(UserError, match=r"^the arrays: the training data has no class elk; it has ant, bee, cat"):
            read(ArrayDataset(X, targets, classes=more))
        weights = np.where(np.arange(9) == 4, 0.0, 1.0)
        found = read(ArrayDataset(X, targets, weights, classes=more)).targets
        assert len(found) == 9
        assert 0 <= found.min() <= found.max() <= 2


def test_numbers_that_are_no_numbers_of_the_named_classes_are_refused():
    for wrong in (Y + 1, Y - 1, Y + 0.5):
        with pytest.raises(UserError, match="must be numbers of the 3 classes that the attribute classes names"):
            read(ArrayDataset(X, wrong, classes=["cat", "ant", "bee"]))
    with pytest.raises(UserError, match="could be numbers of classes or one column per class"):
        read(ArrayDataset(X, np.eye(3, dtype=int)[Y], classes=["cat", "ant", "bee"]))


def test_placeholders_of_weight_0_need_no_class():
    weights = np.ones(len(Y))
    weights[1] = 0
    targets = np.where(weights == 0, -100, Y)
    found = read(ArrayDataset(X, targets, weights, classes=["cat", "ant", "bee"])).targets
    expected = read(ArrayDataset(X, Y, classes=["cat", "ant", "bee"])).targets
    np.testing.assert_array_equal(found[weights > 0], expected[weights > 0])


def test_targets_that_are_numbers_for_both_need_no_names():
    numbers = ArrayDataset(X, Y, classes=[])
    assert aligned(numbers, meaning_of(numbers), remedy) is numbers
    with pytest.raises(UserError, match=r"targets are classes, but those of the training data are numbers \(ant"):
        aligned(ArrayDataset(X, Y, classes=["ant", "bee", "cat"]), meaning_of(numbers), remedy)


def test_a_stated_scale_needs_no_comparison_of_kinds():
    images = meaning_of(ArrayDataset((255 * RNG.random((9, 3))).astype(np.uint8), Y, scale=1 / 255))
    for stated in (1 / 255, float(np.float32(1 / 255))):
        assert read(ArrayDataset(X, Y, scale=stated), reference=images).inputs is not None
    for data in (ArrayDataset(X, Y), ArrayDataset(X, Y, scale=1.0), ArrayDataset(X.astype(np.uint8), Y)):
        with pytest.raises(UserError, match=r"those of the training data are integers with scale 0\.00392157; say"):
            read(data, reference=images)
        assert aligned(data, images, None) is data  # the user has stated it just now
    bytes_too = ArrayDataset(X.astype(np.uint8), Y, scale=1 / 255)
    assert aligned(bytes_too, images, remedy, own_scale=False) is bytes_too
    with pytest.raises(
        UserError, match=r"are floats with scale 0\.00392157, but .* integers with scale 0\.00392157; say"
    ):
        aligned(ArrayDataset(X, Y, scale=1 / 255), images, remedy, own_scale=False)


class Own:
    """A data set of the user's own."""

    name, input_shape = "own", (3,)

    def __init__(self, inputs, scale=None):
        self.inputs, self.scale = inputs, scale

    def __len__(self):
        return len(self.inputs)

    def read(self, rows):
        return ArrayDataset(self.inputs, Y).read(rows)


def test_of_a_data_set_of_the_users_own_kind_and_scale_are_known():
    own = Own(X)
    assert meaning_of(own) == {"inputs": ColumnMeaning("floats")}
    assert aligned(own, meaning_of(own), remedy) is own
    assert "names of inputs (a, b, c), which" in aligned(own, TRAIN, remedy).warnings[0]
    with pytest.raises(UserError, match="own: inputs are integers"):
        aligned(Own(X.astype(int)), TRAIN, remedy)


@pytest.mark.parametrize("scale", [2, np.float32(2), np.int64(2), np.array(2.0)])
def test_a_scale_of_any_type_can_be_stored(scale):
    meaning = meaning_of(Own(X, scale))
    assert meaning == {"inputs": ColumnMeaning("floats", 2.0)}
    assert parse_meaning(meaning_text(meaning)) == meaning
    given = Own(X)
    given.meaning = {"inputs": ColumnMeaning("floats", scale)}
    assert meaning_of(given) == meaning
    with pytest.raises(UserError, match=r"own: scale must be a finite number other than 0, or .* but is nan"):
        meaning_of(Own(X, np.nan))


def test_scales_and_shifts_of_columns_are_compared_in_the_order_of_the_training_data():
    scale, shift = (1.0, 2.0, 4.0), (0.0, 1.0, -1.0)
    train = ArrayDataset(X, Y, scale=scale, shift=shift, input_names=["a", "b", "c"])
    order = [2, 0, 1]
    moved = ArrayDataset(
        X[:, order],
        Y,
        scale=[scale[i] for i in order],
        shift=[shift[i] for i in order],
        input_names=[train.meaning["inputs"].names[i] for i in order],
    )
    found = aligned(moved, meaning_of(train), remedy)
    assert (found.scale, found.meaning["inputs"].shift) == (scale, shift)
    np.testing.assert_array_equal(found.read(slice(None)).inputs, X)
    np.testing.assert_array_equal(
        scalings_of(found)["inputs"].apply(X, np.float64), scalings_of(train)["inputs"].apply(X, np.float64)
    )
    for other in (ArrayDataset(X, Y, scale=scale), ArrayDataset(X, Y, scale=2.0, shift=0.5), ArrayDataset(X, Y)):
        with pytest.raises(
            UserError, match=r"are floats with scale .*with scale \(1, 2, 4\) and shift \(0, 1, -1\); gi"
        ):
            aligned(other, meaning_of(train), remedy)


def test_targets_have_the_scale_of_those_of_training():
    train = {"targets": ColumnMeaning("integers", 0.5, shift=3.0)}
    data = ArrayDataset(X, Y)
    with pytest.raises(UserError, match=r"targets are integers with scale 1, but .* scale 0.5 and shift 3; give these"):
        aligned(data, train, remedy)
    data.meaning["targets"] = train["targets"]
    assert aligned(data, train, remedy) is data


def with_units(units, names=("a", "b", "c")):
    data = ArrayDataset(X, Y, input_names=names)
    data.meaning["inputs"] = data.meaning["inputs"]._replace(units=units)
    return data


def test_units_that_both_know_must_be_the_same():
    train = meaning_of(with_units(("cm", "", "K")))
    for units in (None, ("cm", "kg", "K"), ("", "", "")):
        np.testing.assert_array_equal(aligned(with_units(units), train, remedy).read(slice(None)).inputs, X)
    assert aligned(with_units(("K", "cm", ""), ["c", "a", "b"]), train, remedy).meaning["inputs"].units == (
        "cm",
        "",
        "K",
    )
    wrong = with_units(("m", "", "K"))
    with pytest.raises(UserError, match=r"inputs have column 'a' in m, but those .* are in cm; convert"):
        aligned(wrong, train, remedy)
    assert aligned(wrong, train, None) is wrong  # as the user has stated its scale just now
