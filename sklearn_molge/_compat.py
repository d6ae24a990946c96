"""The only module that imports private names of scikit-learn.

Every other module takes them from here, so that a new scikit-learn release is
adapted to in one place (the upper bound in ``pyproject.toml`` names the minors
that were tried).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sklearn.base import _fit_context as _untyped_fit_context
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import _fit_and_score
from sklearn.utils import _safe_indexing
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import validate_params as _untyped_validate_params
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.metaestimators import available_if as _untyped_available_if
from sklearn.utils.validation import (
    _check_method_params,
    _check_sample_weight,
    _get_feature_names,
    _num_samples,
)

__all__ = [
    "BaseSearchCV",
    "HasMethods",
    "Interval",
    "StrOptions",
    "_BaseComposition",
    "_MultimetricScorer",
    "_check_method_params",
    "_check_sample_weight",
    "_fit_and_score",
    "_fit_context",
    "_get_feature_names",
    "_num_samples",
    "_routing_enabled",
    "_safe_indexing",
    "available_if",
    "validate_parameter_constraints",
    "validate_params",
]

_F = TypeVar("_F", bound=Callable[..., Any])


# scikit-learn has no types: what its decorators return would be Any, and a misspelt
# parameter of ours no error to a type checker. A function stays what it was.
def validate_params(
    constraints: Mapping[str, Any], *, prefer_skip_nested_validation: bool
) -> Callable[[_F], _F]:
    """``validate_params`` of scikit-learn, which keeps the type of the function."""
    return _untyped_validate_params(
        constraints,
        prefer_skip_nested_validation=prefer_skip_nested_validation,
    )


def _fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_F], _F]:
    """``_fit_context`` of scikit-learn, which keeps the type of the method."""
    return _untyped_fit_context(
        prefer_skip_nested_validation=prefer_skip_nested_validation
    )


def available_if(check: Callable[[Any], bool]) -> Callable[[_F], _F]:
    """``available_if`` of scikit-learn, which keeps the type of the method."""
    return _untyped_available_if(check)
