"""How far each test row is from everything that was trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array, check_consistent_length, gen_batches
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import (
    HasMethods,
    _num_samples,
    _safe_indexing,
    validate_params,
)
from sklearn_molge._utils.genes import check_same_columns
from sklearn_molge._utils.rows import as_indexable, is_text, row_batches, take_distinct
from sklearn_molge._utils.similarity import similarity_to
from sklearn_molge._utils.views import is_embedder, resolve_views
from sklearn_molge.molecules import MorganFingerprinter

__all__ = ["TRAINING_DISTANCES", "training_distances"]

# Training rows that are transformed at a time.
_BLOCK_ROWS = 2048
# Features in single precision agree to 1e-7, and 1 - correlation is their square.
_ROUNDING = 1e-10

_TRANSFORMER: list[object] = [HasMethods(["transform"]), None]

TRAINING_DISTANCES = {
    "fingerprint": ("drug", "Tanimoto distance of fingerprints"),
    "molecule_features": ("drug", "correlation distance of molecule features"),
    "aligned_molecule": ("drug", "correlation distance of aligned molecules"),
    "raw_expression": ("profile", "correlation distance of raw expression"),
    "aligned_expression": ("profile", "correlation distance of aligned expression"),
}
"""The distances of :func:`training_distances` by name: what a point is, and a label.

Those of molecules have one value per drug, so that `per` of
:func:`performance_regression` is "drug"; those of profiles have one per profile.

Examples
--------
>>> from sklearn_molge.inspection import TRAINING_DISTANCES
>>> TRAINING_DISTANCES["fingerprint"]
('drug', 'Tanimoto distance of fingerprints')
"""

Features = Callable[[NDArray], NDArray]


@validate_params(
    {
        "molecules": _TRANSFORMER,
        "expression": _TRANSFORMER,
        "fingerprinter": _TRANSFORMER,
    },
    prefer_skip_nested_validation=True,
)
def training_distances(
    X_train: ArrayLike,
    y_train: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    *,
    molecules: object = None,
    expression: object = None,
    embedder: object = None,
    fingerprinter: object = None,
) -> pd.DataFrame:
    r"""Distance of each test row to the nearest molecule and profile of the training.

    A model that only remembers does well near its training set. These distances, with
    :func:`performance_regression`, say how much better it does there.

    Parameters
    ----------
    X_train, X_test : array-like of shape (n_rows,) or (n_rows, n_features)
        The molecule of each row: SMILES, or features.
    y_train, y_test : array-like of shape (n_rows, n_genes)
        The profile of each row.
    molecules : transformer, default=None
        Makes features of molecules, such as
        :class:`~sklearn_molge.molecules.ChempropEmbedder`.
    expression : transformer, default=None
        Makes features of profiles, such as
        :class:`~sklearn_molge.expression.L1000Featurizer`; None takes the profiles as
        they are.
    embedder : estimator, default=None
        A fitted two-view embedder (with ``transform`` and ``transform_ge``), or a
        Pipeline, search or wrapper around one.
    fingerprinter : transformer, default=None
        Makes fingerprints of molecules; None is
        :class:`~sklearn_molge.molecules.MorganFingerprinter` with its defaults.

    Returns
    -------
    distances : DataFrame of shape (n_test_rows, n_distances)
        One row per test row, in [0, 1] for "fingerprint" and [0, 2] for the others:

        - "fingerprint": Tanimoto (Jaccard) distance of bits to the nearest training
          molecule; absent where X holds features and `fingerprinter` is None.
        - "molecule_features": correlation distance after `molecules`, to the nearest
          training molecule; absent without `molecules`.
        - "aligned_molecule": the same in the joint space of `embedder`.
        - "raw_expression": correlation distance after `expression`, to the nearest
          training profile.
        - "aligned_expression": the same in the joint space of `embedder`.

    Raises
    ------
    TypeError
        If `embedder` has no joint space.
    ValueError
        If there is no row, lengths or numbers of features disagree, or features are NaN
        or infinite.
    InvalidSmilesError
        If an entry of X is not a molecule.

    See Also
    --------
    performance_regression : Do ranks get worse with the distance?
    TRAINING_DISTANCES : What a point of that regression is, for each distance.
    TrainingDistanceDisplay : All distances in one figure.

    Notes
    -----
    The correlation distance is one minus Pearson's correlation over the features; a
    row without variance has distance 1 to everything. Distances below 1e-10 are
    rounding of equal rows, and set to 0.

    A transformer that is not fitted yet is cloned and fitted: `molecules` and
    `fingerprinter` on the distinct training molecules, `expression` on `y_train`. One
    that is fitted already is used as it is.

    Each distinct molecule is transformed once. Training profiles are transformed and
    compared a block at a time, so that extra memory is the features of the test
    profiles and a few blocks, however many profiles there are in the training set.

    References
    ----------
    Finlayson et al. (2020), section 3.4, figures 3A and A2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import training_distances
    >>> X_train = np.array(["CCO", "CCO", "c1ccccc1"], dtype=object)
    >>> y_train = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> X_test = np.array(["OCC", "CCCO"], dtype=object)
    >>> y_test = np.array([[0.0, 2.0, 4.0], [2.0, 1.0, 0.0]])
    >>> training_distances(X_train, y_train, X_test, y_test).round(2)
       fingerprint  raw_expression
    0         0.00             0.0
    1         0.44             1.0
    """
    X_train, y_train, X_test, y_test = map(
        as_indexable, (X_train, y_train, X_test, y_test)
    )
    check_consistent_length(X_train, y_train)
    check_consistent_length(X_test, y_test)
    check_same_columns(y_train, y_test, names=("y_train", "y_test"))
    for name, rows in (("X_train", X_train), ("X_test", X_test)):
        if not _num_samples(rows):
            raise ValueError(f"{name} must have at least 1 row. Got none.")
    model = None if embedder is None else _joint_space(embedder)
    if fingerprinter is None and is_text(X_train):
        fingerprinter = MorganFingerprinter()
    known, _ = take_distinct(X_train)
    asked, codes = take_distinct(X_test)
    views: dict[str, Features] = {}
    if fingerprinter is not None:
        views["fingerprint"] = _fitted(fingerprinter, known).transform
    if molecules is not None:
        views["molecule_features"] = _fitted(molecules, known).transform
    if model is not None:
        views["aligned_molecule"] = lambda X: model.transform(
            resolve_views(embedder, X, None)[1]
        )
    views["raw_expression"] = (
        np.asarray if expression is None else _fitted(expression, y_train).transform
    )
    if model is not None:
        views["aligned_expression"] = lambda y: model.transform_ge(
            resolve_views(embedder, None, y)[2]
        )
    distances = {}
    for name, features in views.items():
        if TRAINING_DISTANCES[name][0] == "drug":
            distances[name] = _nearest(features, known, asked, name)[codes]
        else:
            distances[name] = _nearest(features, y_train, y_test, name)
    return pd.DataFrame(distances)


def _joint_space(embedder):
    """Return the two-view embedder inside `embedder`."""
    model = resolve_views(embedder, None, None)[0]
    if not is_embedder(model):
        raise TypeError(
            "embedder must have a joint space: `transform` for molecules and "
            f"`transform_ge` for profiles. Got {model!r}."
        )
    check_is_fitted(model)
    return model


def _fitted(transformer, data):
    """Return a fitted transformer as it is; fit a clone of another."""
    try:
        check_is_fitted(transformer)
    except NotFittedError:
        return clone(transformer).fit(data)
    return transformer


def _nearest(features: Features, train, test, name: str) -> NDArray[np.float64]:
    """Return the distance of each row of `test` to its nearest row of `train`."""
    asked = as_indexable(features(test))
    metric = "jaccard" if name == "fingerprint" else "correlation"
    closest = np.full(test.shape[0], -np.inf)
    for part in gen_batches(train.shape[0], _BLOCK_ROWS):
        block = _check_features(features(_safe_indexing(train, part)), name)
        compare = similarity_to(block, metric=metric)
        for rows in row_batches(test.shape[0], max(block.shape)):
            # Checked a block at a time: a copy in double precision is as small.
            points = _check_features(_safe_indexing(asked, rows), name)
            if block.shape[1] != points.shape[1]:
                raise ValueError(
                    f"Features of {name!r} must be as many for training as for test "
                    f"rows. Got {block.shape[1]} and {points.shape[1]}."
                )
            np.maximum(closest[rows], compare(points).max(axis=1), out=closest[rows])
    distances = 1 - closest
    return np.where(distances < _ROUNDING, 0.0, distances)


def _check_features(values, name: str):
    """Check features; in double precision, so that equal rows have distance 0."""
    of_bits = name == "fingerprint"
    return check_array(
        values,
        accept_sparse="csr" if of_bits else False,
        dtype=None if of_bits else np.float64,
        input_name=f"features of {name!r}",
    )
