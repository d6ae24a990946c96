"""Weights of rows on their way down to whoever takes them in `fit`."""

import inspect
from typing import Any

from numpy.typing import ArrayLike
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRouter
from sklearn.utils.validation import has_fit_parameter

from sklearn_molge._compat import _routing_enabled
from sklearn_molge._utils.identity import is_frozen

__all__ = ["fit_weights", "hand_on_weights", "weight_parameter"]

# By which parameter meta-estimators hold the one that they fit on the same rows.
_MEMBERS = ("estimator", "retriever", "regressor", "structure")


def weight_parameter(estimator: Any) -> str | None:
    """Return by which name `fit` takes the weights of rows.

    None where it takes none; empty where nothing is fitted, so that none are needed.
    """
    if is_frozen(estimator):
        return ""
    if _routing_enabled() and hasattr(estimator, "get_metadata_routing"):
        routing = estimator.get_metadata_routing()
        if isinstance(routing, MetadataRouter):
            taken = routing.consumes("fit", ["sample_weight"])
            return "sample_weight" if taken else None
    if isinstance(estimator, Pipeline):
        step, last = estimator.steps[-1]
        inner = weight_parameter(last)
        return f"{step}__{inner}" if inner else inner
    own = has_fit_parameter(estimator, "sample_weight")
    if not (own or _takes_anything(estimator)):
        return None
    names = [weight_parameter(member) for member in _members(estimator)]
    if None in names or not (names or own):
        return None
    passes_on = hasattr(estimator, "estimator") or hasattr(estimator, "check_inverse")
    return names[0] if passes_on and not own else "sample_weight"


def _takes_anything(estimator: Any) -> bool:
    parameters = inspect.signature(estimator.fit).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _members(estimator: Any) -> list[Any]:
    """Return the estimators that a meta-estimator fits on the same rows."""
    named = getattr(estimator, "estimators", None)
    if isinstance(named, list):
        return [member for _, member in named if member != "drop"]
    found = [getattr(estimator, name, None) for name in _MEMBERS]
    if hasattr(estimator, "check_inverse") and found == [None] * len(found):
        return [LinearRegression()]  # TransformedTargetRegressor's own
    return [member for member in found if hasattr(member, "fit")]


def fit_weights(
    estimator: Any, sample_weight: ArrayLike | None, *, name: str
) -> dict[str, ArrayLike]:
    """Return the weights as `fit` of the estimator takes them.

    Raises
    ------
    ValueError
        If it takes none; `name` is what the caller calls it.
    """
    if sample_weight is None:
        return {}
    taken = weight_parameter(estimator)
    if taken is None:
        raise ValueError(
            f"sample_weight was given, and the {name} takes none in `fit` (with "
            f"metadata routing: requests none, see set_fit_request). Got {estimator!r}."
        )
    return {taken: sample_weight} if taken else {}


def hand_on_weights(
    estimator: Any, fit_params: dict[str, Any], *, name: str
) -> dict[str, Any]:
    """Return parameters of `fit` with `sample_weight` as the estimator takes it."""
    others = {key: v for key, v in fit_params.items() if key != "sample_weight"}
    weights = fit_params.get("sample_weight")
    return others | fit_weights(estimator, weights, name=name)
