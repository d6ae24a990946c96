"""GaussianProcessRetriever against scikit-learn's regressor, and with many drugs.

OMP_NUM_THREADS=1 python benchmarks/bench_gaussian_process.py
OMP_NUM_THREADS=1 python benchmarks/bench_gaussian_process.py --sizes 1000 5000 20000
"""

import argparse
import time

import numpy as np
from _timing import compare, describe_machine, peak_mib, report
from scipy import sparse
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel

from sklearn_molge.alignment import GaussianProcessRetriever
from sklearn_molge.alignment._process import ExactProcess
from sklearn_molge.molecules import TanimotoKernel

HERITABILITY = 0.85
N_NEW = 500


def make(n_drugs, n_genes=978, n_bits=1024, n_hidden=100, seed=0):
    """Return counts in families of molecules, and two to four profiles of each."""
    rng = np.random.default_rng(seed)
    families = rng.poisson(0.05, (max(2, n_drugs // 8), n_bits))
    family = rng.integers(0, len(families), n_drugs)
    counts = np.where(rng.random((n_drugs, n_bits)) < 0.6, families[family], 0)
    counts += rng.poisson(0.01, counts.shape)
    hidden = np.log1p(counts) @ rng.normal(size=(n_bits, n_hidden))
    drugs = np.repeat(np.arange(n_drugs), rng.integers(2, 5, n_drugs))
    y = hidden[drugs] @ rng.normal(size=(n_hidden, n_genes)) / 20
    y += 8 * rng.normal(size=y.shape)
    return sparse.csr_array(counts.astype(np.float64)), drugs, y.astype(np.float32)


def against_scikit_learn(n_drugs, n_directions, repeats):
    """Time fit and prediction of both, and compare what they predict."""
    counts, drugs, y = make(n_drugs)
    features = counts.toarray()[:, :64] + np.arange(n_drugs)[:, None] * 1e-9
    new = features[:N_NEW] + 0.5
    model = GaussianProcessRetriever(
        heritability=HERITABILITY, n_components=n_directions
    ).fit(features[drugs], y)
    n = np.bincount(drugs)
    z = model.transform_ge(y)
    means = np.stack([np.bincount(drugs, column) / n for column in z.T], axis=1)

    def ours():
        model.fit(features[drugs], y)
        return model.predict(new, return_std=True)

    def peer():
        columns = []
        for k, variance in enumerate(model.effect_variances_):
            kernel = ConstantKernel(variance * HERITABILITY) * model.kernel_
            kernel += WhiteKernel(variance * (1 - HERITABILITY))
            gp = GaussianProcessRegressor(kernel, alpha=1 / n, optimizer=None)
            columns.append(gp.fit(features, means[:, k]).predict(new, return_std=True))
        return [np.stack(part, axis=1) for part in zip(*columns, strict=True)]

    def process():
        fitted = ExactProcess.fit(
            model.kernel_(features),
            n.astype(float),
            means,
            model.effect_variances_,
            HERITABILITY,
        )
        return fitted.predict(model.kernel_(new, features), model.kernel_.diag(new))

    errors = [np.abs(a - b).max() for a, b in zip(ours(), peer(), strict=True)]
    print(
        f"{n_drugs:,} drugs x {model.n_components_} directions, {len(y):,} profiles: "
        f"largest difference of a mean {errors[0]:.1e}, of a deviation {errors[1]:.1e}"
    )
    times = compare(ours, peer, repeats=repeats, warmup=0)
    report("fit and prediction of 500 molecules", *times)
    times = compare(process, peer, repeats=repeats, warmup=1)
    report("the process alone, in the same directions", *times, goal="1/20")


def one_size(n_drugs, max_expert_size):
    """Print seconds and memory of a fit, and of scores of 2,000 molecules."""
    counts, drugs, y = make(n_drugs)
    model = GaussianProcessRetriever(
        TanimotoKernel(),
        heritability=HERITABILITY,
        max_expert_size=max_expert_size,
        random_state=0,
    )
    rows = counts[drugs]
    start = time.perf_counter()
    memory = peak_mib(lambda: model.fit(rows, y))
    fitted = time.perf_counter() - start
    new, _, queries = make(2000, seed=1)
    start = time.perf_counter()
    model.similarity(new, queries[:100])
    scored = time.perf_counter() - start
    print(
        f"{n_drugs:,} drugs, {len(y):,} profiles, {model.n_experts_} expert(s): fit "
        f"{fitted:.1f} s and {memory:,.0f} MiB, 2,000 molecules {scored:.1f} s",
        flush=True,
    )
    return model.transform(new)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drugs", type=int, default=1000)
    parser.add_argument("--directions", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000])
    parser.add_argument("--max-expert-size", type=int, default=5000)
    options = parser.parse_args()
    describe_machine()
    against_scikit_learn(options.drugs, options.directions, options.repeats)
    for size in options.sizes:
        exact = one_size(size, options.max_expert_size)
        if size <= options.max_expert_size:
            for n_parts in (2, 4):
                near = one_size(size, -(-size // n_parts))
                r = np.corrcoef(exact.ravel(), near.ravel())[0, 1]
                print(f"  correlation with the exact means {r:.4f}")


if __name__ == "__main__":
    main()
