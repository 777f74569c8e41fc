"""Matrix products, of which large ones are computed as many small ones."""

import numpy as np
import pytest

from dbp.autodiff import products
from dbp.autodiff.products import (
    COLUMNS_BY_ROWS,
    ROWS_BY_COLUMNS,
    ROWS_BY_ROWS,
    column_sum,
    is_fast_stack,
    matmul,
    matmul_of_stacks,
)
from dbp.blas import SMALL_PRODUCT

RNG = np.random.default_rng(0)
LARGE = (128, 300, 256)  # rows, length of the sums, and columns of a product that is cut


@pytest.fixture(params=[True, False], autouse=True)
def preference(monkeypatch, request):
    """Compute large products as small ones, or not, whatever this machine prefers."""
    monkeypatch.setattr(products, "prefers_small_products", lambda: request.param)
    return request.param


@pytest.fixture
def lengths(monkeypatch):
    """Record the rows, sums and columns of what NumPy multiplies."""
    found = []

    def recorded(a, b, *out, **options):
        found.append((a.shape[-2], a.shape[-1], b.shape[-1]))
        return np.matmul(a, b, *out, **options)

    class Recorder:
        def __getattr__(self, name):
            return recorded if name == "matmul" else getattr(np, name)

    monkeypatch.setattr(products, "np", Recorder())
    return found


def factors(rows, inner, columns, order, dtype=np.float32):
    """Return two matrices, each by rows ("r") or by columns ("c") in memory."""
    a, b = (RNG.integers(-4, 5, shape).astype(dtype) for shape in ((rows, inner), (inner, columns)))
    return [x if way == "r" else np.ascontiguousarray(x.T).T for x, way in zip((a, b), order, strict=True)]


@pytest.mark.parametrize("order", ["rr", "cr", "rc", "cc"])
@pytest.mark.parametrize("shape", [(128, 784, 512), (101, 303, 147), (515, 99, 65), (8, 700, 300), (300, 4100, 9)])
def test_products_of_whole_numbers_are_exact_in_all_forms(shape, order):
    a, b = factors(*shape, order)
    expected = a.astype(np.int64) @ b.astype(np.int64)
    wide = np.full((shape[0], shape[2] + 5), 7, np.float32)
    assert np.array_equal(matmul(a, b), expected)
    assert np.array_equal(matmul(a, b, wide[:, :-5]), expected)
    assert (wide[:, -5:] == 7).all()
    assert np.array_equal(matmul(b.T, a.T), expected.T)


@pytest.mark.parametrize(
    ("order", "form"), [("rr", ROWS_BY_ROWS), ("cr", COLUMNS_BY_ROWS), ("rc", ROWS_BY_COLUMNS), ("cc", None)]
)
def test_large_products_are_small_ones_where_that_is_faster(order, form, lengths, preference):
    a, b = factors(*LARGE, order)
    matmul(a, b)
    if preference and form is not None:
        assert all(rows * inner * columns <= SMALL_PRODUCT for rows, inner, columns in lengths)
        assert lengths[0][2] == form.columns
    else:
        assert lengths == [LARGE]


@pytest.mark.parametrize(
    ("order", "shape", "size"),
    [
        ("rr", (1000, 64, 32), (128, 64, 32)),  # few columns are not cut
        ("cr", (300, 256, 48), (64, 256, 48)),
        ("rr", (27, 8200, 32), (27, 512, 32)),  # nor are few rows and columns, but their long sums
        ("cr", (60, 3000, 70), (60, 238, 70)),
        ("rr", (100, 3000, 100), (100, 3000, 100)),  # with more of both, the sums would be short
    ],
)
def test_products_of_few_columns_and_of_long_sums(order, shape, size, lengths, preference):
    a, b = factors(*shape, order)
    found = matmul(a, b)
    assert lengths[0] == (size if preference else shape)
    assert np.array_equal(found, a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize(
    ("shape", "dtypes"),
    [((64, 100, 100), "ff"), (LARGE, "dd"), (LARGE, "fd"), ((0, 300, 256), "ff")],
)
def test_small_products_and_other_types_are_left_to_numpy(shape, dtypes, lengths):
    a, b = (x.astype(dtype) for x, dtype in zip(factors(*shape, "rr"), dtypes, strict=True))
    found = matmul(a, b)
    assert lengths == [shape]
    assert found.dtype == np.result_type(a, b)


@pytest.mark.parametrize("shape", [(500, 64, 64), (250, 64, 128), (40, 9, 7), (0, 3, 4)])
def test_products_of_stacks_are_exact(shape, lengths, preference):
    rows, inner, columns = shape
    wide, b = (RNG.integers(-4, 5, (2, 3, *form)).astype(np.float32) for form in ((rows, 99), (inner, columns)))
    a, out = wide[..., :inner], np.full((2, rows, 3, columns), 7, np.float32).swapaxes(1, 2)
    matmul_of_stacks(a, b, out)
    assert np.array_equal(out, a.astype(np.int64) @ b.astype(np.int64))
    is_large = rows * inner * columns > SMALL_PRODUCT
    assert all(high * k * n <= SMALL_PRODUCT for high, k, n in lengths) or not (preference and is_large)
    assert len(lengths) == (2 if preference and is_large else 1)


@pytest.mark.parametrize(
    ("shape", "fast"), [((16, 256, 32), True), ((16, 1024, 64), False), ((16, 256, 3), False), ((16, 4096, 16), False)]
)
def test_stacks_are_fast_if_each_product_is_small(shape, fast, preference):
    assert is_fast_stack(*shape) == (fast and preference)


@pytest.mark.parametrize("shape", [LARGE, (27, 5000, 32)])
def test_what_is_not_finite_goes_through(shape):
    a, b = factors(*shape, "rr")
    a[5, 7], b[9, 11], b[7] = np.nan, np.inf, 0
    with np.errstate(invalid="ignore"):
        found = matmul(a, b)
    assert np.isnan(found[5]).all()  # 0 * nan is nan
    assert not np.isfinite(found[:, 11]).all()
    assert np.isfinite(np.delete(np.delete(found, 5, 0), 11, 1)).all()


@pytest.mark.parametrize("shape", [(1, 5), (9, 1), (64, 3), (300, 70), (0, 4), (4, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_sum_of_rows_is_exact_for_whole_numbers_in_any_layout(shape, dtype):
    wide = RNG.integers(-9, 9, (shape[0], shape[1] + 2)).astype(dtype)
    matrix = wide[:, 1:-1]
    expected = matrix.astype(np.int64).sum(axis=0)
    for same in (matrix, matrix.copy(), np.asfortranarray(matrix), matrix[::-1]):
        out = np.full(shape[1], 7, dtype)
        found = column_sum(same)
        assert found.dtype == dtype
        assert np.array_equal(found, expected)
        assert column_sum(same, out) is out
        assert np.array_equal(out, expected)


def test_a_sum_of_rows_that_is_not_finite_stays_so_in_its_column_alone():
    matrix = np.ones((40, 6), np.float32)
    matrix[3, 0], matrix[5, 1], matrix[7, 2], matrix[[8, 9], 3] = np.nan, np.inf, -np.inf, [np.inf, -np.inf]
    with np.errstate(invalid="ignore"):
        found = column_sum(matrix)
    assert np.array_equal(found, np.float32([np.nan, np.inf, -np.inf, np.nan, 40, 40]), equal_nan=True)


def test_ones_are_kept_for_longer_and_shorter_sums():
    assert [column_sum(np.ones((rows, 2), np.float32))[0] for rows in (3, 500, 7)] == [3, 500, 7]


def test_shorter_sums_are_cut_where_a_small_product_has_all_rows():
    assert ROWS_BY_COLUMNS.size(64, 128, 9216) == (64, 8)
    assert ROWS_BY_COLUMNS.size(128, 64, 512) == (128, 8)
    assert ROWS_BY_COLUMNS.size(64, 63, 9216) is None
    assert ROWS_BY_COLUMNS.size(256, 191, 1024) is None
    assert ROWS_BY_COLUMNS.size(256, 192, 1024) == (128, 8)
    assert ROWS_BY_ROWS.size(32, 16, 512) == (32, 64)
    assert ROWS_BY_ROWS.size(32, 15, 512) is None
