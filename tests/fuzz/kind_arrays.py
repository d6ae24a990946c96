"""Odd arrays in place of X and y, in `fit` and after it."""

import decimal

import numpy as np
import pandas as pd
from harness import Kind
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import Ridge

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    PredictedProfileRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

N, P, G = 12, 6, 8
METRICS = "correlation", "cosine", "dot", "euclidean", "jaccard", "tanimoto"
VALUES = [
    np.nan, np.inf, -np.inf, 1e200, 1.7e308, -1e-310, 3.4e38, 10**400, 1j, None,
    "x", "1", [1.0], {}, pd.NA, decimal.Decimal("1.5"), b"2", "\ud800", True,
    np.datetime64("2020"),
]  # fmt: skip
DTYPES = [
    "f2", "f4", ">f8", ">f4", "g", "i8", "u1", "?", "O", "U", "S", "M8[s]", "m8[s]",
    "V4", "c16", "Float64", "Int64", "category", "string",
]  # fmt: skip
CCA_2 = CCA(2, ridge=0.1)
ESTIMATORS = [
    *[clone(CCA_2).set_params(metric=metric) for metric in ("correlation", "dot")],
    clone(CCA_2).set_params(metric="cosine"),
    *[DoubleNNRetriever(metric) for metric in METRICS],
    OracleRetriever(),
    PredictedProfileRetriever(Ridge()),
    RandomRetriever(random_state=0),
    TransformedTargetRetriever(CCA_2, transformer=L1000Featurizer()),
    VotingRetriever([("cca", CCA_2), ("dnn", DoubleNNRetriever("correlation"))]),
]
NET = CoordinatedEmbedder(
    None,
    module__expression_layers=(8,),
    module__embedding_size=4,
    max_epochs=1,
    random_state=0,
)


def convert(rng, array):
    """Return it in another type, as far as it can be."""
    dtype = DTYPES[rng.integers(len(DTYPES))]
    try:
        if dtype in ("Float64", "Int64", "category", "string"):
            return pd.DataFrame(array).astype(dtype)
        return (
            array.astype(np.int64).astype(dtype)
            if dtype[0] in "Mm"
            else (array.astype(dtype))
        )
    except (TypeError, ValueError):
        return array


def scale(rng, array):
    """Multiply all, or move them away from 0."""
    factor = [1e200, 1e308, 1e-200, 1e-310, 1e38, 1e30, 1e-40, 1e-20, 0][
        rng.integers(9)
    ]
    shift = [0, 0, 1e5, 1e9, 1e17, -1e300][rng.integers(6)]
    with np.errstate(all="ignore"):
        return array * factor if rng.random() < 0.5 else array + shift


def put(rng, array):
    """Put a value into a cell."""
    value = VALUES[rng.integers(len(VALUES))]
    is_float = isinstance(value, float) and rng.random() < 0.5
    array = array.astype(float if is_float else object)
    array[tuple(map(rng.integers, array.shape))] = value
    return array


def shape(rng, array):
    """Take a part, or another number of dimensions."""
    n = array.shape[1]
    return [
        array[:1], array[:0], array[:, :0], array[:, :1], array[:, 0], array[0, 0],
        array[:, :, None], np.repeat(array[:1], len(array), axis=0), array[::-1, ::-1],
        np.repeat(array[:, :1], n, axis=1), np.hstack([array, array]),
        np.vstack([array, array]),
    ][rng.integers(12)]  # fmt: skip


class Sub(np.ndarray):
    """A subclass of ndarray."""


def wrap(rng, array):
    """Give it another container or another memory."""
    if array.ndim != 2:
        return array.tolist()
    frozen = array.copy()
    frozen.flags.writeable = False
    strided = np.lib.stride_tricks.as_strided(array, array.shape, (0, 0))
    ragged = [row if i else row[:-1] for i, row in enumerate(array.tolist())]
    return [
        lambda: np.asfortranarray(array), lambda: frozen, lambda: array.view(Sub),
        lambda: np.ma.array(array, mask=rng.random(array.shape) < 0.2),
        lambda: np.ma.array(array), lambda: strided, lambda: ragged, array.tolist,
        lambda: sparse.csr_array(array), lambda: sparse.coo_array(array),
        lambda: pd.DataFrame(array), lambda: pd.DataFrame(array).add_prefix("g"),
        lambda: pd.DataFrame(array, columns=["g"] * array.shape[1]),
        lambda: iter(array.tolist()), lambda: {"a": 1}, lambda: None, lambda: "abc",
        lambda: set(), lambda: np.rec.fromarrays(array.T), lambda: memoryview(array),
    ][rng.integers(20)]()  # fmt: skip


def odd_array(rng, array):
    """Change an array in one to three ways."""
    for _ in range(rng.integers(1, 3)):
        change = [convert, scale, scale, put, put, shape, wrap][rng.integers(7)]
        try:
            with np.errstate(all="ignore"):
                array = change(rng, array)
        except (TypeError, ValueError, OverflowError, NotImplementedError):
            continue
        if not isinstance(array, np.ndarray) or array.ndim != 2 or not array.size:
            break
    return array


def n_rows(array):
    """Return how many rows an array has; None where that cannot be told."""
    if sparse.issparse(array):
        return array.shape[0]
    try:
        return len(array)
    except TypeError:
        return None


class Arrays(Kind):
    """An estimator, and an odd array in one of its arguments."""

    name = "arrays-fit"
    estimators = ESTIMATORS

    def prepare(self, folder):
        rng = np.random.default_rng(0)
        self.X, self.y = rng.normal(size=(N, P)), rng.normal(size=(N, G))
        self.fitted = [clone(e).fit(self.X, self.y) for e in self.estimators]

    def draw(self, rng):
        i, where = int(rng.integers(len(self.estimators))), int(rng.integers(4))
        odd = odd_array(rng, (self.X, self.y)[where % 2].copy())
        return i, where, odd

    def use(self, case):
        i, where, odd = case
        X, y = (odd, self.y) if where % 2 == 0 else (self.X, odd)
        model = self.fitted[i]
        if where < 2:
            model = clone(self.estimators[i]).fit(X, y)
            X, y = self.X[:5], self.y[:5]
        return self.answers(model, X, y)

    def answers(self, model, X, y):
        """Return all that a fitted model says, with the shape that it should have."""
        found = {"similarity": (model.similarity(X, y), (n_rows(y), n_rows(X)))}
        if hasattr(model, "transform_ge"):
            found["transform"] = model.transform(X), (n_rows(X), None)
            found["transform_ge"] = model.transform_ge(y), (n_rows(y), None)
        if n_rows(X) == n_rows(y) and (n_rows(X) or 0) > 1:
            found["score"] = model.score(X, y), ()
        return found

    def is_clear(self, case, error):
        text = str(error)
        is_expected = isinstance(error, ValueError | TypeError)
        words = ("X", "y", "metric", "n_components", "samples", "drugs", "module__")
        return is_expected and any(word in _words(text) for word in words)

    def judge(self, case, answer):
        for name, (values, expected) in answer.items():
            values = values.toarray() if sparse.issparse(values) else np.asarray(values)
            if values.dtype.kind not in "biuf":
                return f"{name} is of {values.dtype}"
            told = [n for n in expected if n is not None]
            if values.ndim != len(expected) or list(values.shape)[: len(told)] != told:
                return f"{name} has the shape {values.shape}, not {expected}"
            if name == "score" and np.isnan(values):
                continue  # of molecules that are all one
            if np.isnan(values).any():
                return f"{name} has NaN"
            if np.isinf(values).any() and not self.may_be_infinite(case):
                return f"{name} is infinite"
        return None

    def may_be_infinite(self, case):
        """Whether similarities may be -inf, as an oracle's of an unknown drug."""
        return isinstance(self.estimators[case[0]], OracleRetriever)


def _words(text):
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())


class Net(Arrays):
    """The same of a network, which trains for an epoch."""

    name = "arrays-net"
    estimators = [NET]

    def draw(self, rng):
        i, where, odd = super().draw(rng)
        return i, (where if rng.random() < 0.2 else 2 + where % 2), odd


class Featurizer(Arrays):
    """A transformer of profiles."""

    name = "arrays-featurizer"
    estimators = [L1000Featurizer(), L1000Featurizer(rank_transform=True)]

    def answers(self, model, X, y):
        return {"transform": (model.transform(X), (n_rows(X), None))}

    def use(self, case):
        i, where, odd = case
        if where < 2:
            model = clone(self.estimators[i]).fit(odd)
            return self.answers(model, odd, None)
        return self.answers(self.fitted[i], odd, None)


class Pairs(Arrays):
    """Similarities of two arrays."""

    name = "arrays-pairs"

    def draw(self, rng):
        metric = METRICS[rng.integers(len(METRICS))]
        return metric, odd_array(rng, self.X.copy()), rng.random() < 0.5

    def use(self, case):
        metric, odd, is_first = case
        A, B = (odd, self.X) if is_first else (self.X, odd)
        values = pairwise_similarity(A, B, metric=metric)
        return {"similarity": (values, (n_rows(A), n_rows(B)))}

    def is_clear(self, case, error):
        is_expected = isinstance(error, ValueError | TypeError)
        return is_expected and bool(_words(str(error)) & {"A", "B", "metric"})

    def may_be_infinite(self, case):
        return False


class Groups(Kind):
    """Labels of drugs and cell lines with odd ones among them."""

    name = "arrays-groups"

    def draw(self, rng):
        groups = np.array([[f"d{i // 2}", f"c{i % 3}"] for i in range(N)], dtype=object)
        for _ in range(rng.integers(1, 4)):
            value = [*VALUES, "d1\x00", "d1\x00x", " d1", 5, 5.0, (1, 2)][
                rng.integers(len(VALUES) + 6)
            ]
            place = rng.integers(N), rng.integers(2)
            groups[place] = value
        return [
            groups, groups.tolist(),
            pd.DataFrame(groups, columns=["drug", "cell_line"], dtype=object),
            groups[:, :1], groups[:5], groups.T,
        ][rng.choice(6, p=[0.3, 0.3, 0.25, 0.05, 0.05, 0.05])]  # fmt: skip

    def use(self, case):
        cv = DrugCellLineKFold(2, 2, random_state=0)
        return list(cv.split(np.zeros((N, 1)), groups=case))

    def is_clear(self, case, error):
        is_expected = isinstance(error, ValueError | TypeError)
        return is_expected and bool(_words(str(error)) & {"groups", "samples", "fold"})

    def judge(self, case, answer):
        labels = np.asarray(case, dtype=object)
        for train, test in answer:
            for column in range(2):
                held, seen = (
                    {_key(label) for label in labels[rows, column]}
                    for rows in (test, train)
                )
                if held & seen:
                    return f"labels on both sides: {held & seen}"
        return None


def _key(label):
    """Return what tells labels apart: text without the blanks around it."""
    return label.decode() if isinstance(label, bytes) else str(label).strip()


KINDS = [Arrays(), Net(), Featurizer(), Pairs(), Groups()]
