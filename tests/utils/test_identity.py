"""What a setting is told by: alike in every process, and different where it matters."""

import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from functools import partial

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Freezer, LRScheduler
from torch.optim.lr_scheduler import LambdaLR

from sklearn_molge._utils.identity import NotImportableError, describe
from sklearn_molge.alignment import CCA
from sklearn_molge.metrics import get_scores


class Holder:
    """Holds a method of its own, as callbacks do."""

    def __init__(self, n):
        self.n = n
        self.act = self.run

    def run(self):
        """Stand for a callable that belongs to an object."""


class Other(Holder):
    pass


@dataclass(frozen=True)
class Pair:
    first: int
    hidden: object


def key(value, **options):
    return joblib.hash(describe(value, **options))


def linear(value):
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, value)
    torch.nn.init.constant_(layer.bias, 0)
    return layer


def fitted(n):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
    return CCA(3, ridge=0.1).fit(X[: n + 8], y[: n + 8])


@pytest.mark.parametrize(
    "make",
    [
        float,
        str,
        Holder,
        linear,
        np.random.RandomState,
        np.random.default_rng,
        lambda n: np.full(2, n),
        lambda n: partial(pow, n),
        lambda n: [{"x": (Holder(n),)}],
        lambda n: {1, n + 1},
        lambda n: Ridge(alpha=n),
        lambda n: FrozenEstimator(fitted(n)),
        lambda n: FrozenEstimator(make_pipeline(fitted(n))),
        lambda n: pd.DataFrame({"a": np.arange(999) + n * (np.arange(999) == 500)}),
        lambda n: pd.Series([1], index=[n]),
        lambda n: Pair(1, Holder(n)),
        lambda n: get_scores(k=[n]),
        lambda n: Freezer("encoder.*", at=n).initialize(),
        lambda n: LRScheduler(LambdaLR, lr_lambda=partial(pow, n)),
    ],
)
def test_equal_values_are_described_alike_and_others_are_not(make):
    assert key(make(1)) == key(make(1))
    assert key(make(1)) != key(make(2))
    assert "0x" not in repr(describe(make(1)))


def test_functions_classes_and_methods_are_known_by_name():
    assert describe(linear).endswith("test_identity.linear")
    assert describe(Holder(1).run).endswith("test_identity.Holder.run")
    assert describe(Holder) != describe(Other)


def test_a_path_is_told_as_its_text(tmp_path):
    assert describe(tmp_path) == describe(str(tmp_path))


def local():
    class Local:
        pass

    def function():
        pass

    return Local, function


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda y: y, "test_identity.<lambda>"),
        (local()[0], "local.<locals>.Local"),
        (local()[0](), "local.<locals>.Local"),
        (local()[1], "local.<locals>.function"),
        (FunctionTransformer(lambda y: 2 * y), "<lambda>"),
        (partial(lambda y, k: y, k=2), "<lambda>"),
        ([{"a": (lambda y: y,)}], "<lambda>"),
    ],
)
def test_what_cannot_be_imported_is_refused(value, name):
    with pytest.raises(NotImportableError, match=f"{name} cannot be imported by its"):
        describe(value)
    assert key(value, name=id) == key(value, name=id)


def test_inside_one_process_functions_may_be_told_by_their_id():
    first, second = local()[1], local()[1]
    assert key([first], name=id) == key([first], name=id)
    assert key([first], name=id) != key([second], name=id)


_KEYS = """
    import joblib
    import numpy as np
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn_molge._utils.identity import NotImportableError, describe
    from sklearn_molge.alignment import CCA

    class Mine:
        pass

    rng = np.random.default_rng(0)
    fitted = CCA(3, ridge=0.1).fit(rng.normal(size=(9, 3)), rng.normal(size=(9, 3)))
    values = [
        FunctionTransformer(np.log, kw_args={"p": {"a", "b", "c"}}), rng,
        make_pipeline(FrozenEstimator(fitted)), fitted.transform, {"x", "y", "z"},
    ]
    print([joblib.hash(describe(value)) for value in values])
    try:
        describe(Mine())
    except NotImportableError as error:
        print(error)
"""


def test_keys_are_the_same_in_every_process(tmp_path):
    script = tmp_path / "keys.py"
    script.write_text(textwrap.dedent(_KEYS))
    printed = {
        subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in (1, 2)
    }
    assert len(printed) == 1
    assert "__main__.Mine cannot be imported by its name" in printed.pop()
