"""The only module that imports private names of scikit-learn.

Every other module takes them from here, so that a new scikit-learn release is
adapted to in one place (the upper bound in ``pyproject.toml`` names the minors
that were tried).
"""

from sklearn.base import _fit_context
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
    validate_params,
)
from sklearn.utils.metaestimators import _BaseComposition, available_if
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
