"""DrugBlindRetriever: a control that sees the cell line and not the drug."""

from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import HasMethods, _fit_context
from sklearn_molge._utils.genes import check_gene_names
from sklearn_molge._utils.groups import encode_groups
from sklearn_molge._utils.rows import means_of_groups
from sklearn_molge._utils.views import comparison
from sklearn_molge.base import TwoViewMixin, check_profiles

__all__ = ["DrugBlindRetriever"]


class DrugBlindRetriever(MetaEstimatorMixin, TwoViewMixin, BaseEstimator):
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
    def fit(self, X, y, groups=None):
        """Fit the retriever on the means of the cell lines.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as `retriever` takes it.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row; a missing gene (NaN) is left out of its line's mean.
        groups : array-like or DataFrame of shape (n_samples, 2)
            Drug and cell line of each row; needed.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `groups` is missing, or of another length.
        """
        cell_line = encode_groups(groups, X, y)[1]
        y = check_profiles(self, y, reset=True, allow_nan=True)
        measured = ~np.isnan(y)
        sums = means_of_groups(np.where(measured, y, 0), cell_line.codes)
        with np.errstate(invalid="ignore"):  # NaN where a line lacks a gene
            means = sums / means_of_groups(measured.astype(y.dtype), cell_line.codes)
        named = hasattr(self, "gene_names_in_")
        profiles = pd.DataFrame(means, columns=self.gene_names_in_) if named else means
        self.retriever_ = clone(self.retriever).fit(X, profiles)
        return self

    def compare_to(self, X):
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as `retriever` takes them.

        Returns
        -------
        compare : callable
            Takes profiles, and returns what ``similarity`` returns for them.
        """
        check_is_fitted(self)
        return comparison(self, X)

    def unwrap(self, X, y):
        """Take one step down to the retriever.

        Parameters
        ----------
        X : array-like or None
            Molecules.
        y : array-like or None
            Profiles.

        Returns
        -------
        retriever, X, y
            The fitted retriever, and the views as they are.
        """
        check_is_fitted(self)
        if y is not None:
            y = check_gene_names(self, y, reset=False)
        return self.retriever_, X, y
