"""The one place that looks inside Pipelines, searches and wrappers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import islice
from typing import TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import is_regressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches

from sklearn_molge._compat import _safe_indexing
from sklearn_molge._utils.rows import (
    Blocks,
    as_indexable,
    group_means,
    query_blocks,
    take_distinct,
)
from sklearn_molge._utils.similarity import METRICS, check_view, similarity_to
from sklearn_molge._utils.trained_rows import TRAINED_ROWS, TrainedRows
from sklearn_molge._utils.typing import (
    Compare,
    Embedder,
    Matrix,
    Rows,
    TwoViewEstimator,
)

__all__ = [
    "BLOCK_PROFILES",
    "Comparison",
    "compare_embedded",
    "comparison",
    "drop_repeated",
    "fitted_gene_names",
    "is_embedder",
    "prepare_molecules",
    "resolve_views",
    "step_with",
    "takes_reference",
    "target_genes",
    "trained_rows",
]


# Profiles that are projected at a time.
BLOCK_PROFILES = 8192


def resolve_views(estimator, X, y):
    """Walk down to the two-view estimator, transforming both views on the way.

    Parameters
    ----------
    estimator : estimator
        A fitted two-view estimator, or a Pipeline, search, FrozenEstimator or
        TransformedTargetRetriever around one, in any nesting.
    X, y : array-like or None
        Molecules and profiles as the outermost estimator takes them; a view that is
        None stays None.

    Returns
    -------
    estimator, X, y
        The innermost estimator and the views as it takes them.
    """
    *_, innermost = _steps_down(estimator, X, y)
    return innermost


def step_with(estimator, method: str, X, y):
    """Walk down to the outermost estimator with a method, and return it and its views.

    As :func:`resolve_views`, which goes on to the innermost one.
    """
    for step, molecules, profiles in _steps_down(estimator, X, y):
        if hasattr(step, method):
            return step, molecules, profiles
    raise TypeError(
        f"estimator must be a fitted one with a `{method}` method, such as a "
        "ConformalRetriever, or a Pipeline or search around one. "
        f"Got {estimator!r}."
    )


def trained_rows(
    estimator: object, X: Rows, compared: "Comparison"
) -> tuple[TrainedRows | None, Rows]:
    """Return what the outermost two-view estimator remembers, and X as it takes it.

    `compared` are the molecules X, prepared. None of an estimator that remembers
    nothing, as an oracle, which is fitted on the molecules that it is tested on.
    """
    steps = [step for step, _, _ in _steps_down(estimator)]
    if not getattr(steps[-1], "_remembers_rows", True):
        return None, X
    for depth, step in enumerate(steps):
        rows = getattr(step, TRAINED_ROWS, None)
        if rows is not None and step is steps[-1]:
            return rows, compared.molecules  # X need not be transformed again
        if rows is not None:
            return rows, next(islice(_steps_down(estimator, X), depth, None))[1]
    return None, X


def _steps_down(estimator, X=None, y=None):
    """Yield an estimator and its views, and so on down to the two-view estimator."""
    while True:
        yield estimator, X, y
        if isinstance(estimator, Pipeline):
            if X is not None and len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "unwrap"):
            estimator, X, y = estimator.unwrap(X, y)
        elif hasattr(estimator, "similarity"):
            return
        else:
            hint = ""
            if is_regressor(estimator):
                hint = " A regressor becomes one in PredictedProfileRetriever."
            raise TypeError(
                "estimator must be a fitted two-view estimator (one with a "
                "`similarity` method) or a Pipeline, search or wrapper that ends in "
                f"one. Got {estimator!r}.{hint}"
            )


def fitted_gene_names(estimator) -> NDArray[np.object_]:
    """Return the names of the genes that an estimator was fitted on.

    Raises
    ------
    ValueError
        If there are none.
    """
    inner = estimator
    while not hasattr(inner, "gene_names_in_"):
        if isinstance(inner, Pipeline):
            inner = inner.steps[-1][1]
        elif hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif hasattr(inner, "estimator"):
            inner = inner.estimator
        else:
            raise ValueError(
                f"{type(estimator).__name__} was not fitted on profiles whose genes "
                "have names: fit it on a data frame, such as study.profiles(), or give "
                "the table of its genes, such as study.genes."
            )
    names: NDArray[np.object_] = inner.gene_names_in_
    return names


def target_genes(genes) -> tuple[pd.DataFrame, NDArray[np.object_]]:
    """Read what a user gives for the genes of a model.

    Returns
    -------
    table : DataFrame of n_genes rows
        Their names, a column a kind: ``gene_id``, ``symbol`` or both, else ``name``.
    names : ndarray of shape (n_genes,)
        What profiles of them are named by.

    Raises
    ------
    ValueError
        If there are no genes, or they have no names.
    """
    if not isinstance(genes, pd.DataFrame):
        own = getattr(genes, "genes", None)  # of a study, of an index
        genes = genes if own is None else own
    if not isinstance(genes, pd.DataFrame):
        names = fitted_gene_names(genes) if hasattr(genes, "fit") else genes
        if isinstance(names, str) or np.ndim(names) != 1 or not len(names):
            raise ValueError(
                "genes must be a table with a column 'gene_id', 'symbol' or both, "
                "a list of names, or an estimator fitted on named genes. "
                f"Got {names!r}."
            )
        names = np.array([str(name) for name in names], dtype=object)
        return pd.DataFrame({"name": names}), names
    named = [name for name in ("gene_id", "symbol") if name in genes]
    if not named or genes.empty:
        raise ValueError(
            "genes must have rows, and a column 'gene_id', 'symbol' or both. "
            f"Got {len(genes)} rows and the columns {list(genes.columns)}."
        )
    table = genes[named].reset_index(drop=True)
    return table, table[named[0]].astype(str).to_numpy(dtype=object)


def is_embedder(model: object) -> TypeGuard[Embedder]:
    """Whether a two-view estimator has a joint space, into which it projects both."""
    return hasattr(model, "transform_ge")


@dataclass(frozen=True)
class Comparison:
    """A fixed set of molecules, ready to be compared with profiles.

    Equal molecules are computed once, since BLAS may round equal rows differently:
    they tie exactly.

    Attributes
    ----------
    prepare : callable
        Turns profiles into what `compare` takes: projects them into the joint space,
        where there is one.
    compare : callable
        Turns prepared profiles into similarities to the distinct molecules.
    codes : ndarray of shape (n_molecules,)
        Place of each molecule among the distinct ones: 0, 1, ... if all are distinct.
    in_joint_space : bool
        Whether prepared profiles are points of a joint space, which can be averaged.
    molecules : array-like or sparse matrix of shape (n_molecules, ...)
        The molecules as the innermost estimator takes them.
    """

    prepare: Callable[[ArrayLike], Matrix]
    compare: Callable[[NDArray], NDArray]
    codes: NDArray[np.intp]
    in_joint_space: bool
    molecules: Rows

    def __call__(self, y: ArrayLike) -> NDArray:
        """Similarity of every profile to every molecule: (n_profiles, n_molecules)."""
        similarities = self.compare(self.prepare(y))
        if similarities.shape[1] == len(self.codes):  # distinct, in their own order
            return similarities
        return similarities[:, self.codes]

    def blocks(self, y: Rows, groups: NDArray[np.intp] | None = None) -> Blocks:
        """Yield slices of the answer and similarities to the distinct molecules.

        With `groups`, numbers from 0, an answer is to a group of profiles: to their
        mean in the joint space, or the mean of their similarities without one.
        """
        n_columns = int(self.codes.max()) + 1
        y = as_indexable(y)
        batches = list(gen_batches(y.shape[0], BLOCK_PROFILES))
        prepared = (self.prepare(_safe_indexing(y, batch)) for batch in batches)
        if groups is None:
            for batch, queries in zip(batches, prepared, strict=True):
                blocks = query_blocks(self.compare, queries, n_columns)
                for part, similarities in blocks:
                    start = batch.start
                    yield slice(start + part.start, start + part.stop), similarities
        elif self.in_joint_space:
            points = list(prepared)
            is_sparse = sparse.issparse(points[0])
            joined = sparse.vstack(points) if is_sparse else np.concatenate(points)
            means = group_means(joined, groups)
            yield from query_blocks(self.compare, means, n_columns)
        else:
            yield from query_blocks(
                lambda rows: self.compare(self.prepare(rows)), y, n_columns, groups
            )


def comparison(
    estimator: object, X: Rows, *, reference: Rows | None = None
) -> Comparison:
    """Prepare the molecules X of an estimator, through any Pipeline or wrapper.

    `reference` are the molecules over which a model standardises whose `compare_to`
    has such a parameter, so that similarities do not depend on the others of X.
    """
    model, molecules, _ = resolve_views(estimator, X, None)
    distinct, codes = drop_repeated(molecules)
    if reference is not None and takes_reference(model):
        others = resolve_views(estimator, reference, None)[1]
        prepared = model.compare_to(distinct, reference=others)
    else:
        prepared = _prepare(model, distinct)
    if isinstance(prepared, Comparison):
        prepare, compare, codes = (
            prepared.prepare,
            prepared.compare,
            prepared.codes[codes],
        )
    else:
        prepare, compare = as_indexable, _checked(prepared, model, distinct)

    def prepare_outer(y: ArrayLike) -> Matrix:
        return prepare(resolve_views(estimator, None, y)[2])

    in_joint_space = isinstance(prepared, Comparison) and prepared.in_joint_space
    return Comparison(prepare_outer, compare, codes, in_joint_space, molecules)


def takes_reference(model: object) -> bool:
    """Whether a model compares molecules with those of a reference, as a vote does."""
    own = getattr(model, "compare_to", None)
    return own is not None and "reference" in signature(own).parameters


def _prepare(model: TwoViewEstimator, X: Rows) -> Compare:
    """Prepare X as the model says; else by its joint space, or its similarity."""
    own = getattr(model, "compare_to", None)
    if own is not None:
        return own(X)
    return (
        compare_embedded(model, X)
        if is_embedder(model)
        else partial(model.similarity, X)
    )


def compare_embedded(model: Embedder, X: Rows) -> Comparison:
    """Prepare the molecules X in the joint space of an embedder, by its `metric`."""
    name = type(model).__name__
    metric = getattr(model, "metric", None)
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(
            f"{name} must have `metric`, by which an embedder's molecules and profiles "
            f"are compared: one of {', '.join(map(repr, sorted(METRICS)))}. "
            f"Got {metric!r}."
        )
    gallery, codes = drop_repeated(
        check_view(model.transform(X), metric=metric, name=f"{name}.transform(X)")
    )
    to_gallery = similarity_to(gallery, metric=metric)

    def project(y: ArrayLike) -> Matrix:
        embedded = model.transform_ge(y)
        return check_view(embedded, metric=metric, name=f"{name}.transform_ge(y)")

    return Comparison(project, to_gallery, codes, True, X)


def drop_repeated(X: Rows) -> tuple[Matrix, NDArray[np.intp]]:
    """Return X itself if its rows are distinct, else `take_distinct(X)`."""
    distinct, codes = take_distinct(X)
    if len(codes) == distinct.shape[0]:
        return as_indexable(X), np.arange(len(codes))
    return distinct, codes


def prepare_molecules(model: TwoViewEstimator, X: Rows) -> Compare:
    """Prepare X once where the model offers it, or by a bare `similarity`; checked."""
    own = getattr(model, "compare_to", None)
    compare = partial(model.similarity, X) if own is None else own(X)
    return _checked(compare, model, X)


def _checked(compare: Compare, model: TwoViewEstimator, X: Rows) -> Compare:
    """Let `compare` refuse similarities of another shape than the molecules X."""
    name = type(model).__name__
    if not callable(compare):
        raise TypeError(
            f"{name}.compare_to(X) must return a function of profiles, which returns "
            f"their similarities. Got {type(compare).__name__}."
        )
    n_molecules = as_indexable(X).shape[0]

    def checked(y: ArrayLike) -> NDArray:
        similarities = np.asarray(compare(y))  # a DataFrame or lists of its author's
        expected = (as_indexable(y).shape[0], n_molecules)
        if similarities.shape != expected or similarities.dtype.kind not in "biuf":
            raise ValueError(
                f"{name} must return a similarity of each profile (row) to each "
                f"molecule (column), numbers of shape {expected}. Got "
                f"{similarities.dtype} of shape {similarities.shape}."
            )
        return similarities

    return checked
