"""DrugBlindRetriever: a control that sees the cell line and not the drug."""

from typing import ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import clone

from sklearn_molge._compat import (
    HasMethods,
    _check_sample_weight,
    _fit_context,
    _safe_indexing,
)
from sklearn_molge._utils.groups import encode_groups
from sklearn_molge._utils.rows import means_of_groups
from sklearn_molge._utils.sample_weights import fit_weights
from sklearn_molge.base import check_profiles
from sklearn_molge.retrieval._wrapper import BaseWrapper

__all__ = ["DrugBlindRetriever"]


class DrugBlindRetriever(BaseWrapper):
    """Control: fit a retriever on profiles that say nothing of the drug.

    Each training profile is replaced by the mean of its cell line's training profiles;
    queries stay as they are. What the retriever still finds, it finds by the design of
    the study: by which lines a molecule was tested in. Where molecules were dealt to
    lines at random, it is at chance on an honest split.

    Parameters
    ----------
    retriever : estimator
        A two-view estimator, or a Pipeline that ends in one.

    Attributes
    ----------
    retriever_ : estimator
        The fitted retriever.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes,)
        Names of the genes; only where `y` had names.

    See Also
    --------
    sklearn_molge.evaluation.Method : `drug_blind`, the same in a study's tables.
    sklearn_molge.model_selection.drug_permutation_test_score : The other control,
        with molecules exchanged.

    Notes
    -----
    If it is above chance, lines tell molecules apart: kinase inhibitors were tested in
    some, hormones in others. That much of another method's score is not of the drug's
    effect. In LINCS it is little, and more than nothing (MRR 0.040 of CCA, chance
    0.034, on drugs and lines that are both unseen). The means are of training rows
    alone. Where every molecule was tested in every line they say nothing at all of a
    molecule: CCA refuses what does not correlate with anything.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.metrics import RetrievalScorer, chance_scores
    >>> from sklearn_molge.model_selection import DrugCellLineKFold
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.retrieval import DrugBlindRetriever
    >>> study = make_perturbation_study(90, n_cell_lines=6, level=5, random_state=0)
    >>> study = study[np.random.default_rng(0).random(len(study)) < 0.7]
    >>> pipe = make_pipeline(MorganFingerprinter(), CCA(2, ridge=1.0, metric="dot"))
    >>> scores = cross_validate(
    ...     DrugBlindRetriever(pipe), study.smiles, study.ge,
    ...     cv=list(DrugCellLineKFold(3, 2, random_state=0).split(
    ...         study.smiles, groups=study.groups)),
    ...     scoring=RetrievalScorer("mrr"), params={"groups": study.groups},
    ... )["test_score"]
    >>> print(f"{scores.mean():.2f}, chance {chance_scores(30)['mrr']:.2f}")
    0.13, chance 0.13
    """

    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    _parameter_constraints: dict = {"retriever": [HasMethods(["fit"])]}

    def __init__(self, retriever):
        self.retriever = retriever

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, groups=None, sample_weight=None) -> Self:
        """Fit the retriever on the means of the cell lines.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as `retriever` takes it.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row; a missing gene (NaN) is left out of its line's mean.
        groups : array-like or DataFrame of shape (n_samples, 2)
            Drug and cell line of each row; needed.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0, in the means and for the retriever; equal by
            default.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `groups` is missing, or of another length, or `sample_weight` is given
            and the retriever takes none.
        """
        cell_line = encode_groups(groups, X, y)[1]
        y = check_profiles(self, y, reset=True, allow_nan=True)
        weights = {}
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True
            )
            used = np.flatnonzero(sample_weight > 0)
            X, y, sample_weight = (
                _safe_indexing(rows, used) for rows in (X, y, sample_weight)
            )
            weights = fit_weights(self.retriever, sample_weight, name="retriever")
            cell_line = encode_groups(_safe_indexing(groups, used), X, y)[1]
        measured = ~np.isnan(y)
        zeroed = np.where(measured, y, 0)
        sums = means_of_groups(zeroed, cell_line.codes, sample_weight)
        shares = means_of_groups(
            measured.astype(y.dtype), cell_line.codes, sample_weight
        )
        with np.errstate(invalid="ignore"):  # NaN where a line lacks a gene
            means = sums / shares
        named = hasattr(self, "gene_names_in_")
        profiles = pd.DataFrame(means, columns=self.gene_names_in_) if named else means
        self.retriever_ = clone(self.retriever).fit(X, profiles, **weights)
        return self
