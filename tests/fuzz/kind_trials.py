"""Files of trials of a search: JSON that people may edit."""

import hashlib
import json

import numpy as np
from harness import FileKind
from hyperopt import hp
from mutations import mutate
from sklearn.base import BaseEstimator

from sklearn_molge.model_selection import HyperoptSearchCV

X = np.arange(6.0)[:, None]
SPACE = {
    "x": hp.uniform("x", -5, 5),
    "more": hp.choice("more", [{}, {"y": hp.uniformint("y", -3, 3)}]),
}
VALUES = [
    None, True, False, 0, -1, 10**400, 2**70, 0.5, float("nan"), float("inf"), "1", "x",
    "__class__", [], {}, [1], {"score": 1.0}, {"__import__('os')": 1}, 1e308,
]  # fmt: skip


class Bowl(BaseEstimator):
    """Its score is a function of its parameters."""

    def __init__(self, x=0.0, y=0):
        self.x, self.y = x, y

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return -((self.x - 1) ** 2) - (self.y + 2) ** 2


class Trials(FileKind):
    """Mutated text; or other values in the place of some, with the right checksum."""

    name = "trials"

    def make(self, folder):
        self.search(folder)

    def search(self, folder):
        return HyperoptSearchCV(
            Bowl(), SPACE, n_iter=4, cv=2, algorithm="random", random_state=0,
            trials_path=folder / "trials.json", refit=False,
        ).fit(X)  # fmt: skip

    def read(self, folder):
        search = self.search(folder)
        results = search.cv_results_
        scores = results["mean_test_score"]
        return [scores, str(results["params"]), results["rank_test_score"]]

    def mutate(self, rng, path, content):
        self.sealed = rng.random() < 0.4
        if self.sealed:
            return mutate(rng, content, self.max_bytes)
        file = json.loads(content)
        for _ in range(rng.integers(1, 3)):
            inside = file.get("trials") if rng.random() < 0.9 else file
            self._change(rng, inside if isinstance(inside, list) else file)
        body = {key: file.get(key) for key in ("identity", "seed", "trials")}
        digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
        return json.dumps({"format": 2, "checksum": digest} | body).encode()

    def _change(self, rng, tree):
        """Change an entry somewhere below."""
        while True:
            keys = list(tree) if isinstance(tree, dict) else range(len(tree))
            if not len(keys):
                return
            key = keys[rng.integers(len(keys))]
            inside = tree[key]
            if not isinstance(inside, dict | list) or rng.random() < 0.2:
                break
            tree = inside
        kind = rng.random()
        if kind < 0.15:
            del tree[key]
        elif kind < 0.25 and isinstance(tree, list):
            tree.insert(key, inside)
        elif kind < 0.35 and isinstance(tree, dict):
            tree[str(VALUES[rng.integers(len(VALUES))])] = inside
        else:
            tree[key] = VALUES[rng.integers(len(VALUES))]

    def is_clear(self, case, error):
        # With the right checksum, all trials may have failed, or scored nothing.
        said = "trials has a score" in str(error) or "trials failed" in str(error)
        return super().is_clear(case, error) or (said and not self.sealed)


KINDS = [Trials()]
