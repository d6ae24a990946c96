"""Studies of several sources in one, and how far each of them is to be trusted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge.datasets._columns import ACCOUNT
from sklearn_molge.datasets._join import joined_parts
from sklearn_molge.datasets._study import Study
from sklearn_molge.datasets._texts import clean_texts
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.molecules import drug_ids

__all__ = ["join_studies", "replicate_agreement", "source_weights"]


@validate_params(
    {
        "studies": [Mapping, list, tuple],
        "source": [list, tuple, None],
        "genes": [StrOptions({"first", "common", "union"})],
    },
    prefer_skip_nested_validation=True,
)
def join_studies(
    studies: Mapping[str, Study] | Sequence[Study],
    *,
    source: Sequence[str] | None = None,
    genes: str = "first",
) -> Study:
    """Join studies of several sources into one that remembers which row is whose.

    The first one is the primary source: it decides the genes and the level.

    Parameters
    ----------
    studies : mapping of str to Study, or list of Study
        The studies, by the name of their source, or in a list with `source`.
    source : list of str, default=None
        Names of the sources, one for each entry of a list. None takes
        ``obs["source"]``, which each study must have then.
    genes : {"first", "common", "union"}, default="first"
        Genes of the result: those of the first study, those of all studies, or those
        of any. Where a study lacks one, its values are NaN;
        :class:`~sklearn_molge.expression.GeneImputer` fills them.

    Returns
    -------
    study : Study
        Rows in the order given. ``obs["source"]`` is the source of each row (of
        controls, too), and ``obs["drug"]`` is computed anew by
        :func:`~sklearn_molge.molecules.drug_ids`, so that a drug has one name,
        whatever a source called it. Where ids of profiles meet again, all get their
        source in front ("camda:7"). `dropped` goes on with the accounts of all
        studies, and with the genes that are missing or left out and the drugs that
        got another name.

    Raises
    ------
    ValueError
        If there is no study, names are missing or not different, known levels differ,
        genes have no names or the same, a study has no gene of the first, or "common"
        finds no gene.
    TypeError
        If an entry is not a Study.
    InvalidSmilesError
        If a SMILES is not a molecule.

    Warns
    -----
    UserWarning
        If ``genes="common"`` leaves genes out.

    See Also
    --------
    load_signatures : Profiles of elsewhere as a study.
    source_weights : Sample weights by source.
    Study.concat : Parts of one source.
    sklearn_molge.expression.SourceScaler : Brings the sources to one scale.

    Notes
    -----
    A study without a level (None) joins any other. The splits test the primary source
    alone by their parameter `test_sources`, with ``groups=study.obs``.

    Examples
    --------
    >>> from sklearn_molge.datasets import join_studies, make_perturbation_study
    >>> ours = make_perturbation_study(10, n_genes=20, level=5, random_state=0)
    >>> theirs = make_perturbation_study(10, n_genes=15, level=5, random_state=1)
    >>> both = join_studies({"ours": ours, "theirs": theirs}, genes="union")
    >>> both.obs["source"].value_counts().to_dict()
    {'ours': 160, 'theirs': 160}
    """
    found, sources = _check_sources(studies, source)
    levels = {study.level for study in found} - {None}
    if len(levels) > 1:
        raise ValueError(
            "join_studies needs studies of one level, or without one. Got levels "
            f"{', '.join(str(study.level) for study in found)}."
        )
    parts, counts = joined_parts(found, genes=genes, caller="join_studies")
    drugs = drug_ids(parts["smiles"])
    ends = np.cumsum([len(study) for study in found])[:-1]
    accounts = [
        _account(names[0], study, drug, n_missing, n_left_out, len(parts["genes"]))
        for names, study, drug, (n_missing, n_left_out) in zip(
            sources, found, np.split(drugs, ends), counts, strict=True
        )
    ]
    parts["obs"] = _with_own_ids(
        parts["obs"].assign(drug=drugs, source=np.concatenate(sources))
    )
    if parts["control_obs"] is not None:
        of_controls = [
            np.full(len(study.control_obs), names[0], dtype=object)
            for names, study in zip(sources, found, strict=True)
            if study.control_obs is not None
        ]
        parts["control_obs"] = parts["control_obs"].assign(
            source=np.concatenate(of_controls)
        )
    return Study(**parts, dropped=pd.concat(accounts, ignore_index=True))


def _with_own_ids(obs: pd.DataFrame) -> pd.DataFrame:
    if obs.index.is_unique:
        return obs
    ids = obs["source"].astype(str) + ":" + obs.index.astype(str)
    return obs.set_axis(pd.Index(ids, dtype=object), axis=0)


def _check_sources(
    studies: Mapping[str, Study] | Sequence[Study], source: Sequence[str] | None
) -> tuple[list[Study], list[NDArray[np.object_]]]:
    """Return the studies, and the source of each of their rows."""
    if isinstance(studies, Mapping):
        if source is not None:
            raise ValueError("source goes with a list of studies; a mapping has names.")
        source = list(studies)
        studies = list(studies.values())
    if not studies:
        raise ValueError("studies must hold one study or more. Got none.")
    for study in studies:
        if not isinstance(study, Study):
            raise TypeError(f"studies must hold Study. Got {type(study).__name__}.")
        if not len(study):
            raise ValueError("studies must hold profiles. Got a study without any.")
    if source is None:
        return list(studies), _own_sources(studies)
    different = len(set(source)) == len(source) == len(studies)
    if not different or not all(isinstance(name, str) and name for name in source):
        raise ValueError(
            f"source must have a text of its own for each of the {len(studies)} "
            f"studies. Got {first_few(source)}."
        )
    names = [
        np.full(len(study), name, dtype=object)
        for study, name in zip(studies, source, strict=True)
    ]
    return list(studies), names


def _own_sources(studies: Sequence[Study]) -> list[NDArray[np.object_]]:
    """Return the column ``source`` of each study, as text."""
    lacking = [i for i, s in enumerate(studies) if "source" not in s.obs]
    if lacking:
        raise ValueError(
            "source must name the studies, since obs of those at "
            f"{first_few(lacking)} has no column 'source'."
        )
    known = [clean_texts(s.obs["source"]) for s in studies]
    lacking = [i for i, names in enumerate(known) if pd.isna(names).any()]
    if lacking:
        raise ValueError(
            "obs['source'] must name the source of each profile. Names are missing in "
            f"the studies at {first_few(lacking)}."
        )
    return known


def _account(
    name: str,
    study: Study,
    drugs: NDArray[np.object_],
    n_missing: int,
    n_left_out: int,
    n_genes: int,
) -> pd.DataFrame:
    """Say what became of one study, below what it says itself."""
    told = []
    if n_missing:
        told.append(f"{n_missing:,} of {n_genes:,} genes are NaN")
    if n_left_out:
        told.append(f"{counted(n_left_out, 'gene')} left out")
    given = study.obs["drug"].to_numpy(dtype=object)
    renamed = sorted(
        {f"{a} is {b}" for a, b in zip(given, drugs, strict=True) if a != b}
    )
    if renamed:
        shown = first_few(renamed, write=str, n=3)
        told.append(f"{counted(len(renamed), 'drug')} got another name: {shown}")
    own = pd.DataFrame(columns=ACCOUNT) if study.dropped is None else study.dropped
    row = pd.DataFrame([("joined", 0, len(study), "; ".join(told))], columns=ACCOUNT)
    table = row if own.empty else pd.concat([own, row])
    return table.assign(step=[f"{name}: {step}" for step in table["step"]])


# ------------------------------------------------------------------------- weights


@validate_params(
    {"study": [Study], "reference": [str, None]}, prefer_skip_nested_validation=True
)
def replicate_agreement(study: Study, *, reference: str | None = None) -> pd.Series:
    r"""Correlate each profile with the mean of its drug's others in a trusted source.

    Parameters
    ----------
    study : Study
        With ``obs["source"]``, as :func:`join_studies` makes it. Take the training
        rows, ``study[train]``: profiles of test rows would have a say in weights.
    reference : str, default=None
        The trusted source; None is that of the first row.

    Returns
    -------
    agreement : Series of length n
        Pearson's correlation, over the genes that both have, of each profile
        with the mean of the `reference`'s other profiles of the same drug, whatever
        their cell line; NaN where there is none, or fewer than 3 genes, or no variance.

    Raises
    ------
    ValueError
        If `obs` has no ``source``, or none is named `reference`.

    See Also
    --------
    source_weights : Weights of whole sources.

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study, join_studies
    >>> from sklearn_molge.datasets import replicate_agreement
    >>> study = make_perturbation_study(20, n_genes=50, level=5, random_state=0)
    >>> shuffled = study[:]
    >>> shuffled.ge = shuffled.ge[::-1]
    >>> both = join_studies({"ours": study, "useless": shuffled})
    >>> agreement = replicate_agreement(both)
    >>> means = agreement.groupby(both.obs["source"].to_numpy()).mean()
    >>> bool(means["ours"] > 0.1 > means["useless"])
    True
    """
    sources = _sources_of(study)
    reference = sources[0] if reference is None else reference
    trusted = sources == reference
    if not trusted.any():
        raise ValueError(
            f"reference must be a source of the study, one of "
            f"{first_few(pd.unique(sources))}. Got {reference!r}."
        )
    drugs = pd.factorize(study.groups[:, 0])[0]
    ge = study.ge.astype(np.float64)
    known = ~np.isnan(ge)
    ge = np.where(known, ge, 0.0)
    shape = (drugs.max() + 1, ge.shape[1])
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, drugs[trusted], ge[trusted])
    np.add.at(counts, drugs[trusted], known[trusted].astype(float))
    agreement = np.empty(len(ge))
    for i, drug in enumerate(drugs):  # a profile is not compared with itself
        total = sums[drug] - ge[i] if trusted[i] else sums[drug]
        n = counts[drug] - known[i] if trusted[i] else counts[drug]
        both = (n > 0.5) & known[i]
        agreement[i] = _correlation(ge[i][both], total[both] / n[both])
    return pd.Series(agreement, index=study.obs.index, name="agreement")


def _correlation(a: NDArray, b: NDArray) -> float:
    if len(a) < 3:
        return np.nan
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length > 0 else np.nan


@validate_params(
    {
        "study": [Study],
        "weights": [Mapping, StrOptions({"agreement"})],
        "default": [Interval(Real, 0, None, closed="left")],
        "reference": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def source_weights(
    study: Study,
    weights: Mapping[str, float] | str = "agreement",
    *,
    default: float = 1.0,
    reference: str | None = None,
) -> NDArray[np.float64]:
    r"""Return a sample weight for each row by its source.

    Parameters
    ----------
    study : Study
        With ``obs["source"]``, as :func:`join_studies` makes it.
    weights : mapping of str to float, or "agreement", default="agreement"
        Weight of a source (at least 0) by its name. "agreement": that of a source is
        the mean of its :func:`replicate_agreement` over that of `reference`, at
        least 0 and at most 1.
    default : float, default=1.0
        Weight of a source that the mapping does not name; with "agreement", of a
        source whose profiles cannot be compared, having no drug of the reference.
    reference : str, default=None
        The trusted source of "agreement"; None is that of the first row.

    Returns
    -------
    sample_weight : ndarray of shape (n,)
        For ``fit(..., sample_weight=...)``.

    Raises
    ------
    ValueError
        If `obs` has no ``source``, a name is not a source, a weight is negative or
        not finite, or the reference's own profiles do not agree with each other.

    Warns
    -----
    DataWarning
        If "agreement" cannot compare a source, which gets `default`.

    See Also
    --------
    join_studies : Makes such a study.

    Notes
    -----
    Agreement is a start, not the best weight: choose that by a search over training
    molecules. A weight of 0 leaves the rows of a source out.

    Examples
    --------
    >>> from sklearn_molge.datasets import join_studies, make_perturbation_study
    >>> from sklearn_molge.datasets import source_weights
    >>> a = make_perturbation_study(1, n_cell_lines=1, level=5, random_state=0)
    >>> b = make_perturbation_study(1, n_cell_lines=1, level=5, random_state=1)
    >>> both = join_studies({"lincs": a, "camda": b})
    >>> source_weights(both, {"camda": 0.3})
    array([1. , 1. , 0.3, 0.3])
    """
    sources = _sources_of(study)
    names = pd.unique(sources).tolist()
    if isinstance(weights, Mapping):
        unknown = [name for name in weights if name not in names]
        bad = {
            k: w
            for k, w in weights.items()
            if not (isinstance(w, int | float | np.number) and 0 <= w < np.inf)
        }
        if unknown or bad:
            what = f"no source {first_few(unknown)}" if unknown else f"{bad}"
            raise ValueError(
                "weights must name sources of the study, one of "
                f"{first_few(names)}, with finite numbers of at least 0. Got {what}."
            )
        chosen = {name: float(weights.get(name, default)) for name in names}
    else:
        reference = names[0] if reference is None else reference
        agreement = replicate_agreement(study, reference=reference)
        means = agreement.groupby(sources).mean()
        if not means[reference] > 0:
            raise ValueError(
                'weights="agreement" needs profiles of one drug in the reference '
                f"{reference!r} that agree. Their mean correlation is "
                f"{means[reference]:.3g}: give a mapping."
            )
        shares = (means / means[reference]).clip(0, 1)
        unknown = shares.index[shares.isna()].tolist()
        if unknown:
            warnings.warn(
                f"Sources that share no drug with {reference!r} are not compared with "
                f"it, and get the weight default={default:g}: {first_few(unknown)}.",
                DataWarning,
                stacklevel=2,
            )
        chosen = shares.fillna(default).to_dict()
    return np.array([chosen[name] for name in sources], dtype=np.float64)


def _sources_of(study: Study) -> NDArray[np.object_]:
    if "source" not in study.obs or study.obs["source"].isna().any():
        raise ValueError(
            "obs must have a column 'source' without missing values: join_studies "
            "makes it."
        )
    return study.obs["source"].to_numpy(dtype=object)
