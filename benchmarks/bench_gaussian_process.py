"""GaussianProcessRetriever against scikit-learn's regressor, and with many drugs."""

import numpy as np
from _timing import compare, in_turn, peak_mib, spread
from scipy import sparse
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel

from sklearn_molge.alignment import GaussianProcessRetriever
from sklearn_molge.molecules import TanimotoKernel

HERITABILITY = 0.85
SMOKE = {
    "drugs": 40, "directions": 4, "genes": 30, "new": 20, "sizes": [60],
    "max_expert_size": 60,
}  # fmt: skip


def add_arguments(parser):
    add = parser.add_argument
    add("--drugs", type=int, default=1000, help="beside scikit-learn")
    add("--directions", type=int, default=80, help="beside scikit-learn")
    add("--genes", type=int, default=978)
    add("--new", type=int, default=2000, help="molecules that are scored")
    add("--sizes", type=int, nargs="*", default=[1000, 5000], help="drugs, alone")
    add("--max-expert-size", type=int, default=5000)


def make(n_drugs, n_genes, n_bits=1024, n_hidden=100, seed=0):
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


def against_scikit_learn(options):
    """Time ours from the profiles, and from their coordinates in the directions.

    The peer is given the directions, which ours finds: of the coordinates at little
    cost.
    """
    counts, drugs, y = make(options.drugs, options.genes)
    features = counts.toarray()[:, :64] + np.arange(options.drugs)[:, None] * 1e-9
    model = GaussianProcessRetriever(
        heritability=HERITABILITY, n_components=options.directions
    ).fit(features[drugs], y)
    coordinates = model.transform_ge(y)
    alone = clone(model).set_params(profile_scaling=None)
    return [
        one_comparison("profiles", model, features, drugs, y, options),
        one_comparison("coordinates", alone, features, drugs, coordinates, options),
    ]


def one_comparison(start, model, features, drugs, y, options):
    """Time fit and prediction of both, and compare what they predict."""
    model.fit(features[drugs], y)
    new = features[:500] + 0.5
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

    errors = [float(np.abs(a - b).max()) for a, b in zip(ours(), peer(), strict=True)]
    return compare(
        f"fit from {start}, and 500 predictions", ours, peer, options, warmup=0,
        against="scikit-learn's GaussianProcessRegressor, a direction each",
        sizes={"drugs": options.drugs, "profiles": len(y),
               "directions": model.n_components_},
        goal=1 / 20, largest_error=max(errors),
    )  # fmt: skip


def one_size(n_drugs, max_expert_size, options):
    """Return the record of a fit and of scores, and the means of new molecules."""
    counts, drugs, y = make(n_drugs, options.genes)
    model = GaussianProcessRetriever(
        TanimotoKernel(),
        heritability=HERITABILITY,
        max_expert_size=max_expert_size,
        random_state=0,
    )
    rows = counts[drugs]
    memory = peak_mib(lambda: model.fit(rows, y))
    new, _, queries = make(options.new, options.genes, seed=1)
    steps = [lambda: model.fit(rows, y), lambda: model.similarity(new, queries[:100])]
    fitting, scoring = in_turn(steps, options, warmup=0)
    record = {
        "what": f"fit; scores of {options.new:,} new molecules",
        "sizes": {"drugs": n_drugs, "profiles": len(y), "processes": model.n_experts_},
        "ours_s": spread(fitting), "scores_s": spread(scoring), "ours_mib": memory,
    }  # fmt: skip
    return record, model.transform(new)


def run(options):
    records = against_scikit_learn(options)
    for size in options.sizes:
        record, exact = one_size(size, options.max_expert_size, options)
        records.append(record)
        if size > options.max_expert_size:
            continue
        for n_parts in (2, 4):
            record, near = one_size(size, -(-size // n_parts), options)
            r = float(np.corrcoef(exact.ravel(), near.ravel())[0, 1])
            records.append(record | {"correlation_with_exact": r})
    return records
