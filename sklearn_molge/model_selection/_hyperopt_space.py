"""The search space: from hyperopt's expressions to parameters of an estimator."""

from collections.abc import Mapping
from typing import Any

import joblib
import numpy as np
from hyperopt import Trials, hp, pyll, rand, space_eval
from hyperopt.base import Domain
from hyperopt.exceptions import DuplicateLabel
from sklearn.base import clone

from sklearn_molge._utils.identity import describe

__all__ = ["SearchSpace"]

# Points at which the names of the parameters are tried out before the search.
_N_PROBES = 32


class SearchSpace:
    """The distributions that a search draws from.

    Parameters
    ----------
    param_distributions : dict or hyperopt expression
        See :class:`~sklearn_molge.model_selection.HyperoptSearchCV`.
    """

    def __init__(self, param_distributions: Any):
        self.expression = _merge_equal(_as_expression(param_distributions))
        try:
            self.domain = Domain(None, self.expression)
        except DuplicateLabel as error:
            raise ValueError(
                "Each hyperopt expression in param_distributions must have a label of "
                f"its own. {error.args[0]!r} comes twice, with other distributions."
            ) from error
        if not self.domain.params:
            raise ValueError(
                "param_distributions must hold a hyperopt expression or a list to "
                f"draw from. Got {param_distributions!r}."
            )

    @property
    def labels(self) -> list[str]:
        """The labels of hyperopt's expressions."""
        return sorted(self.domain.params)

    def params(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters at a point, given each active label's value."""
        return self.flatten(space_eval(self.expression, values))

    def flatten(self, point: Any) -> dict[str, Any]:
        """Return the parameters at a point; a branch gives way to its contents."""
        if not _is_branch(point):
            raise TypeError(
                "param_distributions must be a dict of parameters, or an expression "
                f"that draws one. It drew {point!r}."
            )
        params: dict[str, Any] = {}
        for name, value in point.items():
            inside = self.flatten(value) if _is_branch(value) else {name: plain(value)}
            twice = sorted(params.keys() & inside.keys())
            if twice:
                raise ValueError(
                    f"param_distributions sets {twice} twice at one point."
                )
            params.update(inside)
        return params

    def check(self, estimator: Any) -> None:
        """Raise what `set_params` raises, at points drawn from the space."""
        trials = Trials()
        for seed in range(_N_PROBES):
            (doc,) = rand.suggest([seed], self.domain, trials, seed)
            params = self.params(active_values(doc))
            clone(estimator).set_params(**clone(params, safe=False))

    def identity(self) -> str:
        """Return a hash that tells this space from others."""
        return _node_keys(self.expression)[id(self.expression)]


def active_values(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of one of hyperopt's trials, without inactive labels."""
    values = doc["misc"]["vals"]
    return {label: plain(value[0]) for label, value in values.items() if len(value)}


def plain(value: Any) -> Any:
    """Return numpy's numbers as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(plain(v) for v in value)
    if type(value) is dict:
        return {plain(k): plain(v) for k, v in value.items()}
    return value


def _as_expression(distributions: Any) -> Any:
    if isinstance(distributions, pyll.Apply):
        return distributions
    bad = [name for name in distributions if not isinstance(name, str)]
    if bad:
        raise TypeError(
            f"The keys of param_distributions must be names, str. Got {bad[0]!r}."
        )
    return {name: _distribution(name, v) for name, v in distributions.items()}


def _merge_equal(expression: Any) -> pyll.Apply:
    """Return a copy with one node for each label and distribution.

    scikit-learn's `clone` copies a dict entry by entry, and so parts what several
    entries have in common.
    """
    expression = pyll.as_apply(expression)
    keys = _node_keys(expression)
    merged: dict[str, pyll.Apply] = {}
    copies: dict[int, pyll.Apply] = {}
    for node in pyll.dfs(expression):
        copy = node.clone_from_inputs([copies[id(each)] for each in node.inputs()])
        if node.name == "hyperopt_param":
            copy = merged.setdefault(keys[id(node)], copy)
        copies[id(node)] = copy
    return copies[id(expression)]


def _node_keys(expression: pyll.Apply) -> dict[int, str]:
    """Return a hash of each node, and of all below it, by the node's id."""
    keys: dict[int, str] = {}
    for node in pyll.dfs(expression):
        if isinstance(node, pyll.Literal):
            content = ["literal", describe(node.obj)]
        else:
            names = [name for name, _ in node.named_args]
            content = [node.name, names, [keys[id(each)] for each in node.inputs()]]
        keys[id(node)] = joblib.hash(content)
    return keys


def _distribution(name: str, value: Any) -> Any:
    """Return what hyperopt takes for one entry: a list is a choice."""
    if hasattr(value, "rvs"):
        raise TypeError(
            f"param_distributions[{name!r}] must be a hyperopt expression such as "
            f"hp.uniform({name!r}, 0, 1), a list to choose from or a fixed value. Got "
            f"a scipy distribution, {value!r}."
        )
    if isinstance(value, list | np.ndarray):
        if len(value) == 0:
            raise ValueError(f"param_distributions[{name!r}] has nothing to draw from.")
        return hp.choice(name, [_constant(option) for option in value])
    return _constant(value)


def _constant(value: Any) -> Any:
    """Keep a value without expressions as it is: hyperopt turns lists into tuples."""
    return value if _has_expression(value) else pyll.Literal(value)


def _has_expression(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_has_expression(v) for v in value)
    return isinstance(value, pyll.Apply)


def _is_branch(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)
