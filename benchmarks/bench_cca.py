"""CCA against scikit-learn's and cca-zoo's, and the cost of choosing the ridge."""

import warnings

import numpy as np
from _timing import compare, missing
from scipy import linalg
from sklearn import cross_decomposition

from sklearn_molge.alignment import CCA

SMOKE = {"shape": [200, 30, 12], "components": 4}


def add_arguments(parser):
    parser.add_argument("--shape", type=int, nargs=3, default=[3000, 500, 128])
    parser.add_argument("--components", type=int, default=50)


def make(n, p, q, hidden=60):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, hidden))
    X = z @ rng.normal(size=(hidden, p)) + 4 * rng.normal(size=(n, p))
    y = z @ rng.normal(size=(hidden, q)) + 4 * rng.normal(size=(n, q))
    return X, y


def exact(X, y, k):
    qx, qy = (linalg.qr(v - v.mean(0), mode="economic")[0] for v in (X, y))
    return linalg.svdvals(qx.T @ qy)[:k]


def fit_scikit_learn(X, y, k):
    with warnings.catch_warnings():  # it does not converge in 500 iterations
        warnings.simplefilter("ignore")
        return cross_decomposition.CCA(k).fit(X, y)


def run(options):
    n, p, q = options.shape
    k = options.components
    X, y = make(n, p, q)
    sizes = {"rows": n, "features": p, "targets": q, "components": k}
    truth = exact(X, y, k)
    ours = CCA(k, ridge=0).fit(X, y)
    scores = fit_scikit_learn(X, y, k).transform(X, y)
    theirs = [np.corrcoef(scores[0][:, i], scores[1][:, i])[0, 1] for i in range(k)]
    errors = {
        "ours_error": float(np.abs(ours.correlations_ - truth).max()),
        "peer_error": float(np.abs(np.sort(theirs)[::-1] - truth).max()),
    }
    records = [
        compare(
            "CCA, ridge 0", lambda: CCA(k, ridge=0).fit(X, y),
            lambda: fit_scikit_learn(X, y, k), options,
            against="scikit-learn's CCA", sizes=sizes, goal=1 / 50, warmup=0,
            memory=False, **errors,
        ),
        compare(
            'CCA, ridge "auto"', lambda: CCA(k, random_state=0).fit(X, y),
            lambda: CCA(k, ridge=0.001).fit(X, y), options,
            against="the same with a fixed ridge", sizes=sizes, goal=2.5,
        ),
    ]  # fmt: skip
    peer = "cca-zoo's RidgeCCA"
    if without := missing("CCA, ridge 0.001", "cca_zoo", peer):
        return [*records, without]
    from cca_zoo.linear import RidgeCCA

    records.append(
        compare(
            "CCA, ridge 0.001", lambda: CCA(k, ridge=0.001).fit(X, y),
            lambda: RidgeCCA(k, shrinkage=0.001).fit([X, y]), options,
            against=peer, sizes=sizes, goal=1.0,
        )
    )  # fmt: skip
    return records
