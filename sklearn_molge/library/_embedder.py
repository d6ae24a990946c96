"""The embedder of an index: a copy of its own, and what tells it from another."""

import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._files.signing import check_signed, dump_signed, load_signed
from sklearn_molge._utils.genes import gene_names
from sklearn_molge._utils.messages import first_few, shortened
from sklearn_molge._utils.views import fitted_gene_names, resolve_views
from sklearn_molge.exceptions import CorruptFileError, DataWarning
from sklearn_molge.expression import align_profiles, match_genes
from sklearn_molge.library._rerank import Cascade, VoteSpace, joint_space
from sklearn_molge.library._store import STORED_METRICS, VectorStore
from sklearn_molge.molecules import IDENTITY_VERSION

__all__ = [
    "align_queries",
    "check_description",
    "check_embedder",
    "check_genes",
    "check_identity",
    "check_unchanged",
    "choose_metric",
    "describe_index",
    "embed_molecules",
    "embed_profiles",
    "has_embedder",
    "load_embedder",
    "own_copy",
    "save_embedder",
    "with_gene_names",
]

# Where it puts them tells one embedder from another.
_PROBES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "ONC(=O)CCCCCCC(=O)Nc1ccccc1",
    "CN1CCN(CC1)Cc1ccc(cc1)C(=O)Nc1ccc(C)c(c1)Nc1nccc(n1)-c1cccnc1",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "OCC1OC(O)C(O)C(O)C1O",
    "Clc1ccccc1C1=NCc2nnc(C)n2-c2sccc12",
    "CCN(CC)CCNC(=O)c1ccc(N)cc1",
)
_N_PROFILES = 2
# Queries that have fewer of the genes are refused; what else they lack is 0, unchanged.
MIN_GENE_SHARE = 0.5
_EMBEDDER = "embedder.pickle"
_INSTEAD = (
    "Give the embedder, MoleculeIndex.open(folder, estimator=...): then this file "
    "is not opened."
)
# Rounding differs between machines; another embedder differs by far more.
_TOLERANCE = 1e-3


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
    if isinstance(space, VoteSpace) and chosen != space.metric:
        raise ValueError(
            "metric must be 'auto' for a VotingRetriever, whose estimators have their "
            f"own. Got {metric!r}."
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
            f"y: the embedding of {len(bad)} profiles is not finite, in rows "
            f"[{first_few(bad.tolist())}]."
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
    names, n_genes = _names_of(estimator), _n_genes(estimator)
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


# Which one it is


def describe_index(cascade: Cascade, unique_by: str | None, genes=None) -> dict:
    """Return what tells this index from another, as JSON.

    Raises
    ------
    NotFittedError, ValueError
        If `estimator` is not fitted, or does not take SMILES.
    """
    check_is_fitted(cascade.estimator)
    check_is_fitted(cascade.embedder)
    reranks = cascade.reranks
    similarities = None
    try:
        molecules = embed_molecules(cascade.embedder, np.array(_PROBES, dtype=object))
        if reranks:
            similarities = _probe_similarities(cascade)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "estimator must be fitted on SMILES; put what computes features of "
            "molecules into a Pipeline before it. Embedding "
            f"{_PROBES[0]!r} failed with {type(error).__name__}: {error}"
        ) from error
    points = _embedded_probe_profiles(cascade)
    genes = check_genes(cascade.estimator, genes)
    described = {
        "unique_by": unique_by,
        "identity_version": IDENTITY_VERSION,
        "genes": None if genes is None else genes.to_dict("list"),
        "probes": molecules.tolist(),
        "profiles": None if points is None else points.tolist(),
    }
    if reranks:
        known = None if similarities is None else similarities.tolist()
        described["similarities"] = known
    return described


def check_description(identity: dict, n_components: int) -> None:
    """Refuse what :func:`describe_index` cannot have returned.

    Raises
    ------
    ValueError
        If it was changed.
    """
    known = {"unique_by", "identity_version", "genes", "probes", "profiles"}
    if identity.keys() - {"similarities"} != known or identity["unique_by"] not in (
        "drug",
        "smiles",
        None,
    ):
        raise ValueError(f"{shortened(identity)} describes no index")
    genes = identity["genes"]
    if genes is not None:
        lists = list(genes.values())
        texts = [text for column in lists for text in column]
        is_table = {"gene_id", "symbol", "name"}.issuperset(genes) and lists
        if not is_table or {type(text) for text in texts} - {str}:
            raise ValueError(f"{shortened(genes)} are no genes")
        if len({len(column) for column in lists}) != 1:
            raise ValueError("the columns of genes are not of one length")
    shapes = {
        "probes": (len(_PROBES), n_components),
        "profiles": (_N_PROFILES, n_components),
        "similarities": (_N_PROFILES, len(_PROBES)),
    }
    for name, shape in shapes.items():
        if name != "probes" and identity.get(name) is None:
            continue
        points = np.array(identity[name])
        if points.shape != shape or points.dtype.kind not in "fi":
            raise ValueError(f"{name} are of shape {points.shape}")
        if not np.isfinite(points).all():
            raise ValueError(f"{name} are not finite")


def check_identity(theirs: dict, ours: dict, where: str) -> None:
    """Refuse an index of another embedder.

    Raises
    ------
    ValueError
        If the embedders place the probes elsewhere, or molecules are told apart in
        another way.
    """
    if theirs["unique_by"] != ours["unique_by"]:
        raise ValueError(
            f"unique_by must be {theirs['unique_by']!r}, with which {where} was made. "
            f"Got {ours['unique_by']!r}."
        )
    check_rule(theirs, where)
    if theirs["genes"] != ours["genes"]:
        raise ValueError(
            f"genes must be those with which {where} was made. Got others, or the same "
            "in another order."
        )
    for kind, part in (("molecules", "probes"), ("profiles", "profiles")):
        if not _alike(theirs[part], ours[part]):
            raise ValueError(
                f"estimator must be the embedder that made {where}, as it was fitted "
                f"then. Got one that projects the same {kind} to other places. `fit` "
                "embeds a library with it anew (in another folder); "
                "set_params(estimator=index.estimator_) goes on with the other one."
            )
    rerank = ["similarities" in each for each in (theirs, ours)]
    there, here = theirs.get("similarities"), ours.get("similarities")
    if rerank[0] != rerank[1] or not _alike(there, here):
        raise ValueError(
            f"estimator must be the retriever that made {where}, as it was fitted "
            "then, with the same candidates_by. Got one that scores the same molecules "
            "and profiles in another way."
        )


def check_rule(identity: dict, where: str) -> None:
    """Refuse an index whose drugs were told apart by another rule.

    Raises
    ------
    ValueError
        If they were.
    """
    written = identity.get("identity_version")
    if written != IDENTITY_VERSION:
        raise ValueError(
            f"{where[0].upper()}{where[1:]} tells molecules apart by version {written} "
            f"of drug_ids; this release has version {IDENTITY_VERSION}, by which other "
            "rows are one drug. Fit the library again: MoleculeIndex(estimator, "
            "folder=another).fit(library)."
        )


def check_unchanged(cascade: Cascade, identity: dict) -> None:
    """Check that an index's own embedder projects profiles as it did.

    Raises
    ------
    ValueError
        If it was changed.
    """
    check_rule(identity, "this index")
    same = _alike(identity["profiles"], _embedded_probe_profiles(cascade))
    if same and "similarities" in identity:
        same = _alike(identity["similarities"], _probe_similarities(cascade))
    if not same:
        raise ValueError(
            "estimator_ of this index was changed since the library was embedded, so "
            "its profiles and molecules are no longer in one space. Call fit again."
        )


def _alike(there, here) -> bool:
    if there is None or here is None:
        return there is here
    there, here = np.asarray(there), np.asarray(here)
    atol = _TOLERANCE * np.abs(there).max(initial=0)
    return there.shape == here.shape and np.allclose(
        there, here, rtol=_TOLERANCE, atol=atol
    )


def _probe_profiles(estimator):
    """Return a few fixed profiles; None where the number of genes is not known."""
    n_genes = _n_genes(estimator)
    if n_genes is None:
        return None
    # RandomState, whose numbers are the same in every version of numpy; positive, for
    # steps that take logarithms.
    profiles = np.random.RandomState(0).uniform(0.5, 2.0, size=(_N_PROFILES, n_genes))
    return with_gene_names(estimator, profiles.astype(np.float32))


def _embedded_probe_profiles(cascade: Cascade) -> NDArray[np.float32] | None:
    """Embed them; None where the embedder takes other profiles as well."""
    profiles = _probe_profiles(cascade.estimator)
    if profiles is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # of their scale
            return embed_profiles(cascade.embedder, profiles)
    except (TypeError, ValueError):
        return None


def _probe_similarities(cascade: Cascade) -> NDArray[np.float64] | None:
    """Score the probes; what is infinite, as an oracle's, is a large number in JSON."""
    profiles = _probe_profiles(cascade.estimator)
    if profiles is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of their scale
        scores = cascade.similarity(np.array(_PROBES, dtype=object), profiles)
    return np.nan_to_num(scores, nan=0.0, posinf=1e300, neginf=-1e300)


def _n_genes(estimator) -> int | None:
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


# The folder of an index: the embedder beside the vectors.


def save_embedder(folder: Path, cascade: Cascade) -> None:
    """Write the embedder beside its vectors, signed; the file is whole or not there.

    With what finds its candidates, if that is another one.
    """
    content = cascade.estimator
    if cascade.candidates_by is not None:
        content = {"estimator": content, "candidates_by": cascade.candidates_by}
    dump_signed(content, folder / _EMBEDDER)


def has_embedder(folder: Path) -> bool:
    """Whether the file is there, and one that can be read: a pipe is waited for."""
    return (folder / _EMBEDDER).is_file()


def check_embedder(folder: Path) -> None:
    """Compare the file with its checksum; nothing in it is run.

    Raises
    ------
    CorruptFileError
        If it is missing or damaged.
    """
    if not has_embedder(folder):
        raise CorruptFileError(folder / _EMBEDDER, "", "it is missing")
    check_signed(folder / _EMBEDDER)


def load_embedder(folder: Path, *, trust: bool) -> Cascade:
    """Unpickle the embedder, if this installation wrote it or it is trusted.

    Raises
    ------
    FileNotFoundError
        If the folder holds none.
    UntrustedFileError
        If somebody else wrote it, or it was changed, and not `trust`.
    CorruptFileError
        If it is cut or damaged, or holds no embedder.
    """
    path = folder / _EMBEDDER
    if not has_embedder(folder):
        raise FileNotFoundError(
            f"There is no file {_EMBEDDER} in {str(folder)!r}: give `estimator`, or "
            "fit again."
        )
    loaded = load_signed(path, trust=trust, instead=_INSTEAD)
    parts = {"estimator", "candidates_by"}
    is_pair = isinstance(loaded, dict) and loaded.keys() == parts
    cascade = Cascade(**loaded) if is_pair else Cascade(loaded)
    for each in (cascade.estimator, cascade.embedder):
        if not hasattr(each, "fit"):
            why = f"it holds no embedder but {type(each).__name__}"
            raise CorruptFileError(path, "", why)
    return cascade
