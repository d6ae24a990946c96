"""CCA against scikit-learn's and cca-zoo's, 50 components.

OMP_NUM_THREADS=1 python benchmarks/bench_cca.py
"""

import argparse
import warnings

import numpy as np
from _timing import compare, describe_machine, report
from cca_zoo.linear import RidgeCCA
from scipy import linalg
from sklearn import cross_decomposition

from sklearn_molge.alignment import CCA


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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=(3000, 500, 128))
    parser.add_argument("--components", type=int, default=50)
    options = parser.parse_args()
    describe_machine("cca-zoo")
    X, y = make(*options.shape)
    k = options.components
    truth = exact(X, y, k)
    ours = CCA(k, ridge=0).fit(X, y)
    theirs = fit_scikit_learn(X, y, k)
    scores = theirs.transform(X, y)
    found = [np.corrcoef(scores[0][:, i], scores[1][:, i])[0, 1] for i in range(k)]
    print(
        f"{options.shape}, {k} components: largest error of a correlation: ours "
        f"{np.abs(ours.correlations_ - truth).max():.1e}, scikit-learn "
        f"{np.abs(np.sort(found)[::-1] - truth).max():.1e}"
    )
    times = compare(
        lambda: CCA(k, ridge=0.001).fit(X, y),
        lambda: RidgeCCA(k, shrinkage=0.001).fit([X, y]),
        repeats=options.repeats,
    )
    report("against cca-zoo's RidgeCCA", *times, goal="1.0")
    times = compare(
        lambda: CCA(k, ridge=0).fit(X, y),
        lambda: fit_scikit_learn(X, y, k),
        repeats=options.repeats,
        warmup=0,
    )
    report("against scikit-learn's CCA", *times, goal="1/50")


if __name__ == "__main__":
    main()
