"""What is compared: rows of the tables, and embedders that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Self

from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from sklearn_molge._compat import StrOptions
from sklearn_molge._utils.views import is_embedder
from sklearn_molge.alignment import CoordinatedEmbedder, FittedTower
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    DrugBlindRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
)

__all__ = [
    "TABLES",
    "AlignedView",
    "FittedAlignment",
    "Method",
    "add_controls",
    "aligned_views",
    "put_towers",
]

TABLES = ("table1", "table2", "ablations")
TRAINING_ROWS = ("train", "oracle_train_lines", "oracle_test_lines")


class AlignedView(TransformerMixin, BaseEstimator):
    """Place of a shared embedder in a method of :func:`evaluate_study`.

    The embedder is fitted once for each repeat, and every method that names it gets
    the same fitted towers. Alone it cannot be fitted.

    Parameters
    ----------
    view : {"molecules", "profiles", "both"}, default="both"
        "molecules" is a transformer of SMILES, for a Pipeline step; "profiles" one of
        profiles, for :class:`~sklearn_molge.retrieval.TransformedTargetRetriever`;
        "both" is the embedder itself, which ranks by its own similarity.
    embedder : str, default="aligned"
        Its name in the parameter `embedders` of :func:`evaluate_study`.

    See Also
    --------
    sklearn_molge.alignment.FittedTower : What it is replaced by.

    Examples
    --------
    CCA of the aligned molecules with the profiles as they are:

    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.evaluation import AlignedView
    >>> row = make_pipeline(AlignedView("molecules"), CCA(10))
    """

    _parameter_constraints: dict = {
        "view": [StrOptions({"molecules", "profiles", "both"})],
        "embedder": [str],
    }

    def __init__(self, view="both", *, embedder="aligned"):
        self.view = view
        self.embedder = embedder

    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Refuse: `evaluate_study` replaces this object before it fits anything.

        Parameters
        ----------
        X : Ignored
            Not used.
        y : Ignored
            Not used.
        sample_weight : Ignored
            Not used.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError(
            f"AlignedView(embedder={self.embedder!r}) only stands for an embedder "
            "inside evaluate_study; elsewhere use the fitted embedder's "
            "molecule_encoder() and expression_encoder()."
        )


@dataclass(frozen=True, eq=False)
class Method:
    """A row of a table: an estimator, what it sees, and how it is labelled.

    The name of a row is its key in the parameter `methods` of :func:`evaluate_study`.

    Parameters
    ----------
    estimator : estimator or list of estimator
        A two-view estimator or a Pipeline that ends in one, of SMILES and profiles;
        :class:`AlignedView` may stand for a shared embedder. Of a list, each is fitted
        and the one with the best mean reciprocal rank on the validation rows is kept.
    expression, molecules, method : str, default=""
        What represents the profiles, the molecules, and what compares them, in words.
    label : str, default=""
        What the report calls the row; its name by default.
    tables : tuple of {"table1", "table2", "ablations"}, default=("table1",)
        The tables in which it stands.
    train : {"train", "oracle_train_lines", "oracle_test_lines"}, default="train"
        The rows it is fitted on; the others are for oracles, which look at the test
        drugs in the training lines, or at the test rows.
    shuffle_molecules : bool, default=False
        Fit on molecules in random order: what is left is chance.
    drug_blind : bool, default=False
        Fit on profiles that say nothing of the drug: each is replaced by the mean of
        its cell line over the training rows. What is left is chance, or a bias of which
        molecules were tested in which lines.
    sample_weight : array-like of shape (n_samples,), str, False or None, default=None
        Weights of the study's rows in this row's `fit`, or the column of `obs` that
        holds them. None takes those of :func:`evaluate_study`; False takes none, so
        that all training rows count the same.

    Raises
    ------
    ValueError
        If `tables` or `train` is none of these, or the list is empty.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.evaluation import Method
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> row = Method(
    ...     make_pipeline(MorganFingerprinter(radius=3), CCA(20)),
    ...     expression="raw", molecules="Morgan, radius 3", method="CCA",
    ... )
    >>> row.tables
    ('table1',)
    """

    estimator: BaseEstimator | Sequence[BaseEstimator]
    expression: str = ""
    molecules: str = ""
    method: str = ""
    label: str = ""
    tables: tuple[str, ...] = ("table1",)
    train: str = "train"
    shuffle_molecules: bool = False
    drug_blind: bool = False
    sample_weight: ArrayLike | str | bool | None = None

    def __post_init__(self) -> None:
        if self.train not in TRAINING_ROWS:
            raise ValueError(f"train must be one of {TRAINING_ROWS}. Got {self.train}.")
        unknown = sorted(set(self.tables) - set(TABLES))
        if unknown or not self.tables:
            raise ValueError(f"tables must be of {TABLES}. Got {self.tables}.")
        if not self.candidates:
            raise ValueError("estimator must hold at least one estimator. Got [].")
        if self.sample_weight is True:
            raise ValueError(
                "sample_weight must be weights, a column of obs, False or None. Got "
                "True; None takes the weights of evaluate_study."
            )

    @property
    def candidates(self) -> list[BaseEstimator]:
        """The estimators to select from."""
        if isinstance(self.estimator, list | tuple):
            return list(self.estimator)
        return [self.estimator]

    @property
    def control(self) -> str:
        """Why it is a control, which finds nothing of a drug's effect; else empty."""
        kinds = (
            "molecules in random order" if self.shuffle_molecules else "",
            "means of cell lines in the place of profiles" if self.drug_blind else "",
            *(
                why
                for kind, why in _CONTROLS.items()
                if all(_holds(each, kind) for each in self.candidates)
            ),
        )
        return "; ".join(filter(None, dict.fromkeys(kinds)))

    @property
    def is_classical(self) -> bool:
        """Whether it may be the baseline: it is fitted honestly, without an embedder.

        What the best of these reaches is what a trained tower has to beat.
        """
        labels = (self.expression, self.molecules)
        return (
            "table1" in self.tables
            and self.train == "train"
            and not self.control
            and "aligned" not in labels
            and not any(
                _holds(each, AlignedView | CoordinatedEmbedder | FittedTower)
                for each in self.candidates
            )
        )


# Retrievers that are controls by themselves, and why.
_CONTROLS = {
    DrugBlindRetriever: "means of cell lines in the place of profiles",
    RandomRetriever: "random numbers",
}


def _holds(estimator: BaseEstimator, kind: type | UnionType) -> bool:
    """Whether an estimator, or one inside it, is of a kind."""
    parts = [estimator, *estimator.get_params(deep=True).values()]
    return any(isinstance(part, kind) for part in parts)


def add_controls(
    methods: Mapping[str, Method], expression: BaseEstimator
) -> dict[str, Method]:
    """Return the methods, with controls for tables that lack one of the two kinds.

    They are the first method that learns from training rows alone, on molecules in
    random order, and D-NN on means of cell lines: of so few profiles CCA finds fewer
    components than it is asked for, and says so.
    """
    model = next(
        (
            replace(method, label=f"{method.label or name}, shuffled molecules")
            for name, method in methods.items()
            if method.train == "train" and not method.control
            # An embedder was trained on the true molecules.
            if not any(aligned_views(each) for each in method.candidates)
        ),
        None,
    )
    if model is None:
        raise ValueError(
            "controls=True needs a method that is fitted on the training rows, without "
            f"AlignedView: a control is made of it. Got {list(methods)}."
        )
    blind = make_pipeline(
        MorganFingerprinter(),
        TransformedTargetRetriever(DoubleNNRetriever("jaccard"), clone(expression)),
    )
    words = ("means of cell lines", "Morgan", "D-NN", "D-NN, drug-blind")
    rows = {
        "shuffled_molecules": replace(model, shuffle_molecules=True),
        "drug_blind": Method(blind, *words, drug_blind=True),
    }
    used = [t for t in TABLES if any(t in m.tables for m in methods.values())]
    added = {}
    for name, row in rows.items():
        alike = [m for m in methods.values() if m.control == row.control]
        there = {table for m in alike for table in m.tables}
        lacking = tuple(table for table in used if table not in there)
        if lacking and name in methods:
            raise ValueError(f"controls=True adds a method {name!r}: name yours apart.")
        if lacking:
            added[name] = replace(row, tables=lacking)
    return dict(methods) | added


@dataclass(frozen=True)
class FittedAlignment:
    """A fitted embedder, and the fitted transformer of profiles before it."""

    embedder: BaseEstimator
    expression: BaseEstimator

    def tower(self, view: str) -> BaseEstimator:
        """Return what an :class:`AlignedView` stands for."""
        expression = make_pipeline(FrozenEstimator(self.expression))
        if view == "both":
            return TransformedTargetRetriever(
                FrozenEstimator(self.embedder), expression
            )
        tower = FittedTower(_with_both_views(self.embedder), view=view)
        if view == "profiles":
            expression.steps.append(("tower", tower))
            return expression
        return tower


def _with_both_views(embedder: BaseEstimator) -> BaseEstimator:
    """Return the embedder, in a wrapper that has `transform_ge` if it hides that."""
    if is_embedder(embedder):
        return embedder
    both = TransformedTargetRetriever(FrozenEstimator(embedder))
    both.retriever_, both.transformer_ = both.retriever, None  # it is fitted already
    return both


def aligned_views(estimator: BaseEstimator) -> dict[str, AlignedView]:
    """Return the placeholders in an estimator by parameter, "" for itself."""
    if isinstance(estimator, AlignedView):
        return {"": estimator}
    found = estimator.get_params(deep=True).items()
    return {name: value for name, value in found if isinstance(value, AlignedView)}


def put_towers(
    estimator: BaseEstimator, alignments: Mapping[str, FittedAlignment]
) -> BaseEstimator:
    """Return a clone of the estimator with fitted towers for its placeholders."""
    towers = {
        name: alignments[view.embedder].tower(view.view)
        for name, view in aligned_views(estimator).items()
    }
    return towers[""] if "" in towers else clone(estimator).set_params(**towers)
