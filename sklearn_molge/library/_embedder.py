"""The embedder of an index: a copy of its own, its space, and the genes it takes."""

from copy import deepcopy

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._utils.genes import gene_names
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.views import fitted_gene_names, resolve_views
from sklearn_molge.expression import align_profiles, match_genes
from sklearn_molge.library._rerank import Cascade, VoteSpace, joint_space
from sklearn_molge.library._store import STORED_METRICS, VectorStore

__all__ = [
    "align_queries",
    "check_genes",
    "choose_metric",
    "embed_molecules",
    "embed_profiles",
    "n_genes_of",
    "own_copy",
    "with_gene_names",
]

# Queries that have fewer of the genes are refused; what else they lack is 0, unchanged.
MIN_GENE_SHARE = 0.5


def own_copy(cascade: Cascade) -> Cascade:
    """Copy what was fitted, so that fitting it again changes nothing here.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    """
    for each in (cascade.estimator, cascade.embedder):
        check_is_fitted(each)
    return deepcopy(cascade)


def choose_metric(estimator, metric: str) -> str:
    """Return the metric of an index; "auto" is that of its embedder."""
    space = joint_space(estimator)
    chosen = space.metric if metric == "auto" else metric
    inner = resolve_views(estimator, None, None)[0]
    if space is not inner and chosen != space.metric:
        raise ValueError(
            f"metric must be 'auto' for a {type(inner).__name__}, whose similarity is "
            f"a product of its own. Got {metric!r}."
        )
    if chosen not in STORED_METRICS:
        raise ValueError(
            f"metric must be one of {list(STORED_METRICS)}. Got {chosen!r}, the metric "
            "of the embedder; name another one."
        )
    return chosen


def embed_molecules(estimator, smiles: NDArray[np.object_]) -> NDArray[np.float32]:
    """Project molecules into the joint space.

    Raises
    ------
    ValueError
        If there is not one vector a molecule.
    """
    molecules = resolve_views(estimator, smiles, None)[1]
    with np.errstate(over="ignore"):  # what becomes infinite is a row that is left out
        vectors = np.asarray(joint_space(estimator).transform(molecules), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(smiles):
        raise ValueError(
            f"estimator must embed each molecule as one vector. Got {len(smiles)} "
            f"molecules and an array of shape {vectors.shape}."
        )
    return vectors


def embed_profiles(
    estimator, y: ArrayLike, store: VectorStore | None = None
) -> NDArray[np.float32]:
    """Project profiles into the joint space, of a vote as it ranks a library.

    Raises
    ------
    ValueError
        If an embedding is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # which is an error below
        profiles, space = resolve_views(estimator, None, y)[2], joint_space(estimator)
        if isinstance(space, VoteSpace) and store is not None:
            projected = space.standardized(profiles, store)
        else:
            projected = space.transform_ge(profiles)
        vectors = np.asarray(projected, dtype=np.float32)
    if not np.isfinite(vectors).all():
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        raise ValueError(
            f"y: the embedding of {counted(len(bad), 'profile')} is not finite, in "
            f"rows [{first_few(bad.tolist())}]."
        )
    return vectors


# Genes


def _names_of(estimator) -> NDArray[np.object_] | None:
    try:
        return fitted_gene_names(estimator)
    except ValueError:
        return None


def with_gene_names(estimator, profiles: NDArray):
    """Give profiles the names that the embedder knows its genes by, if any."""
    names = _names_of(estimator)
    if names is None or len(names) != profiles.shape[1]:
        return profiles
    return pd.DataFrame(profiles, columns=names)


def check_genes(estimator, genes):
    """Check that a table of genes, or their names, are those of the embedder.

    Returns
    -------
    genes : DataFrame or None

    Raises
    ------
    ValueError
        If there are more or fewer than the embedder has, or they are others.
    """
    if genes is None:
        return None
    if not isinstance(genes, pd.DataFrame):
        genes = pd.DataFrame({"name": list(genes)})
    known = [name for name in ("gene_id", "symbol", "name") if name in genes]
    if not known:
        raise ValueError(
            "genes must have a column 'gene_id', 'symbol' or both. "
            f"Got {list(genes.columns)}."
        )
    genes = genes[known].astype(str).reset_index(drop=True)
    names, n_genes = _names_of(estimator), n_genes_of(estimator)
    if n_genes is not None and len(genes) != n_genes:
        raise ValueError(
            f"genes must be the {n_genes:,} genes of a profile of the estimator, in "
            f"their order. Got {len(genes):,}."
        )
    if names is not None:
        places = match_genes(names, _target(genes))["column"]
        if not np.array_equal(places, np.arange(len(genes))):
            at = int(np.flatnonzero(places != np.arange(len(genes)))[0])
            raise ValueError(
                "genes must be those that the estimator was fitted on, in their order. "
                f"Gene {at} of the estimator is {names[at]!r}; of genes it is "
                f"{genes.iloc[at].tolist()}."
            )
    return genes


def _target(genes: pd.DataFrame):
    return genes["name"].to_numpy(dtype=object) if "name" in genes else genes


def align_queries(estimator, genes: pd.DataFrame | None, y):
    """Bring profiles whose genes have names into the order of the embedder.

    `genes` is what :func:`check_genes` returned. Profiles without names are taken as
    they are.

    Raises
    ------
    ValueError
        If profiles have names, and neither `genes` nor the embedder; or less than half
        of the genes are there, or one comes twice.

    Warns
    -----
    GeneNamesWarning
        If genes are missing.
    """
    fitted = _names_of(estimator)
    is_query = bool(getattr(y, "gene_name_choices", ()))
    tables = [getattr(y, name, None) for name in ("var", "genes")]
    is_annotated = any(isinstance(table, pd.DataFrame) for table in tables)
    names = None if is_query or is_annotated else gene_names(y)
    if names is None and not (is_query or is_annotated):
        return y
    if names is not None and fitted is not None and np.array_equal(names, fitted):
        return y
    if genes is None and fitted is None:
        if is_query:  # it has no order but that of the table it was made with
            return np.asarray(y)
        raise ValueError(
            "The genes of y have names, and those of the index are not known. Give "
            "MoleculeIndex(..., genes=study.genes), the genes of the training set in "
            "their order, or fit the estimator on study.profiles(). Profiles whose "
            "columns are in that order go without names: y.to_numpy()."
        )
    target = fitted if genes is None else _target(genes)
    aligned = align_profiles(y, target, missing="zero", min_share=MIN_GENE_SHARE)
    # Columns that are counted are no names, for an embedder that has none.
    return aligned.set_axis(
        range(aligned.shape[1]) if fitted is None else fitted, axis=1
    )


def n_genes_of(estimator) -> int | None:
    """Return how many genes the profiles have that `estimator` takes."""
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif getattr(estimator, "transformer_", None) is not None:
            return getattr(estimator.transformer_, "n_features_in_", None)
        elif hasattr(estimator, "retriever_"):
            estimator = estimator.retriever_
        else:
            return getattr(estimator, "n_genes_in_", None)
