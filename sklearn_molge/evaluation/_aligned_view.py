"""AlignedView: stands for an embedder that `evaluate_study` fits once for all rows."""

from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

from sklearn_molge._compat import StrOptions
from sklearn_molge._utils.views import is_embedder
from sklearn_molge.alignment import FittedTower
from sklearn_molge.retrieval import TransformedTargetRetriever

__all__ = ["AlignedView", "FittedAlignment"]


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

    def fit(self, X, y=None):
        """Refuse: `evaluate_study` replaces this object before it fits anything.

        Parameters
        ----------
        X : Ignored
            Not used.
        y : Ignored
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


@dataclass(frozen=True)
class FittedAlignment:
    """A fitted embedder, and the fitted transformer of profiles before it."""

    embedder: Any
    expression: Any

    def tower(self, view: str) -> Any:
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


def _with_both_views(embedder: Any) -> Any:
    """Return the embedder, in a wrapper that has `transform_ge` if it hides that."""
    if is_embedder(embedder):
        return embedder
    both = TransformedTargetRetriever(FrozenEstimator(embedder))
    both.retriever_, both.transformer_ = both.retriever, None  # it is fitted already
    return both


def aligned_views(estimator: Any) -> dict[str, AlignedView]:
    """Return the placeholders in an estimator by parameter, "" for itself."""
    if isinstance(estimator, AlignedView):
        return {"": estimator}
    found = estimator.get_params(deep=True).items()
    return {name: value for name, value in found if isinstance(value, AlignedView)}


def put_towers(estimator: Any, alignments: dict[str, FittedAlignment]) -> Any:
    """Return a clone of the estimator with fitted towers for its placeholders."""
    towers = {
        name: alignments[view.embedder].tower(view.view)
        for name, view in aligned_views(estimator).items()
    }
    return towers[""] if "" in towers else clone(estimator).set_params(**towers)
