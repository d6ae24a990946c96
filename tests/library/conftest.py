"""An embedder of texts whose points the tests choose."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sklearn_molge.library import MoleculeIndex


class Points(BaseEstimator):
    """Knows the vector of each text; what it does not know lies at the origin."""

    def __init__(self, metric="correlation"):
        self.metric = metric

    def fit(self, X, y):
        self.known_ = dict(zip(X, np.asarray(y, dtype=np.float32), strict=True))
        self.origin_ = np.zeros(np.shape(y)[1], dtype=np.float32)
        return self

    def transform(self, X):
        return np.array([self.known_.get(text, self.origin_) for text in X])

    def transform_ge(self, y):
        return np.asarray(y, dtype=np.float32)

    def similarity(self, X, y):
        """Make it a two-view estimator."""


@pytest.fixture
def index_of():
    """Return a function that makes an index of given vectors, named 0, 1, 2, ..."""

    def make(vectors, metric="correlation", *, texts=None, **params):
        vectors = np.asarray(vectors, dtype=np.float32)
        texts = [str(i) for i in range(len(vectors))] if texts is None else texts
        params = {"unique_by": None, **params}
        embedder = Points(metric).fit(texts, vectors)
        return MoleculeIndex(embedder, **params).fit(texts)

    return make


def pytest_collection_modifyitems(items):
    # Embedders of the tests are classes of the tests, which no model file holds.
    quiet = "ignore::sklearn_molge.exceptions.PickledModelWarning"
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(quiet), append=False)
