"""Which embedder made an index: where it puts a few fixed molecules and profiles."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._utils.messages import shortened
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.library._embedder import (
    check_genes,
    embed_molecules,
    embed_profiles,
    n_genes_of,
    with_gene_names,
)
from sklearn_molge.library._rerank import Cascade
from sklearn_molge.molecules import IDENTITY_VERSION

__all__ = ["check_description", "check_identity", "check_unchanged", "describe_index"]

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
# Rounding differs between machines; another embedder differs by far more.
_TOLERANCE = 1e-3


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
    rerank = ["similarities" in each for each in (theirs, ours)]
    if rerank[0] != rerank[1]:
        how = ["keeps all that its scores need as vectors", "scores candidates again"]
        raise ValueError(
            f"estimator must be the retriever that made {where}, which "
            f"{how[rerank[0]]}. Got one that {how[rerank[1]]}, or this is an index of "
            "an earlier release: `fit` embeds the library anew, in another folder."
        )
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
    if not _alike(theirs.get("similarities"), ours.get("similarities")):
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
    n_genes = n_genes_of(estimator)
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
