"""The only module that imports private names of scikit-learn.

Every other module takes them from here, so that a new scikit-learn release is
adapted to in one place (the upper bound in ``pyproject.toml`` names the minors
that were tried).
"""

from sklearn.base import _fit_context
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
from sklearn.utils.validation import _check_sample_weight

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "_BaseComposition",
    "_check_sample_weight",
    "_fit_context",
    "_routing_enabled",
    "_safe_indexing",
    "available_if",
    "validate_parameter_constraints",
    "validate_params",
]
