import numpy as np
import pytest
from scipy import sparse

from sklearn_molge._utils.rows import as_indexable, distinct_rows


def slow_distinct_rows(keys):
    """Sort the keys; number each row by its place among the distinct ones."""
    distinct = sorted(set(keys))
    first = [keys.index(key) for key in distinct]
    return first, [distinct.index(key) for key in keys]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, ">i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_equal_rows_of_numbers_are_one_in_the_order_of_their_bytes(dtype, order):
    X = np.random.default_rng(0).integers(0, 3, (200, 4)).astype(dtype)
    native = X.astype(X.dtype.newbyteorder("="))
    expected = slow_distinct_rows([row.tobytes() for row in native])
    found = distinct_rows(np.asarray(X, order=order))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.float64])
def test_bits_are_numbered_alike_in_every_precision(dtype):
    bits = np.random.default_rng(0).integers(0, 2, (300, 9))
    for ours, plain in zip(
        distinct_rows(bits.astype(dtype)), distinct_rows(bits), strict=True
    ):
        np.testing.assert_array_equal(ours, plain)


def test_many_rows_that_differ_in_one_bit_are_kept_apart():
    X = np.eye(500)
    first, codes = distinct_rows(np.vstack([X, X]))
    assert len(first) == 500
    np.testing.assert_array_equal(codes[:500], codes[500:])
    np.testing.assert_array_equal(first[codes], np.tile(np.arange(500), 2))


def test_negative_zero_is_zero():
    assert distinct_rows(np.array([[0.0, 1.0], [-0.0, 1.0]]))[1].tolist() == [0, 0]


def test_sparse_rows_are_compared_by_their_sums_and_stay_as_they_are():
    values = np.array([1, 2, 0, 3, 1, 2], dtype=np.uint8)
    X = sparse.csr_array(
        (values, [0, 0, 1, 0, 2, 2], [0, 3, 4, 6]), shape=(3, 3), copy=True
    )
    first, codes = distinct_rows(X)
    assert codes.tolist() == [0, 0, 1]
    assert first.tolist() == [0, 2]
    np.testing.assert_array_equal(X.data, values)


def test_texts_in_the_order_of_the_alphabet():
    first, codes = distinct_rows(["CO", "C", "CO"])
    assert first.tolist() == [1, 0]
    assert codes.tolist() == [1, 0, 1]


@pytest.mark.parametrize("kind", ["bsr", "coo", "csc", "csr", "dia"])
def test_rows_can_be_taken_from_every_sparse_array(kind):
    X = sparse.csr_array(np.arange(24.0).reshape(6, 4) % 3)
    found = as_indexable(X.asformat(kind))[[4, 1]]
    np.testing.assert_array_equal(found.toarray(), X.toarray()[[4, 1]])
