"""Whether measured signatures add to structure, where a part of a library has them.

Each draw holds six cell lines out, whose profiles are the queries, and hides half of
the drugs from the training. So of the candidates, the drugs of the queries, a part was
measured in other lines and the others never. Rows: structure alone, measured signatures
alone, and EvidenceRetriever of both. Controls, of the Gaussian process: molecules dealt
to other drugs, and the mean profile of the line in the place of each.
"""

import warnings

import numpy as np
import pandas as pd
from sklearn.gaussian_process.kernels import Kernel
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from tqdm import tqdm

from sklearn_molge.alignment import GaussianProcessRetriever
from sklearn_molge.datasets import load_lincs
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.metrics import (
    bootstrap_scores,
    paired_comparison,
    retrieval_ranks,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import StructureKernel
from sklearn_molge.retrieval import (
    ConnectivityRetriever,
    EvidenceRetriever,
    recommended_pipeline,
)

SEED = 100
SMOKE = {"draws": 1, "structure": ["CCA"]}


class TableKernel(Kernel):
    """A kernel that was computed once, over all molecules of the study."""

    def __init__(self, table):
        self.table = table

    def __call__(self, X, Y=None, eval_gradient=False):
        """Look values up."""
        Y = X if Y is None else Y
        return self.table.loc[list(X), list(Y)].to_numpy()

    def diag(self, X):
        """Return ones."""
        return np.ones(len(X))

    def is_stationary(self):
        """Whether it depends on a difference alone."""
        return False


def structures(smiles):
    """Return structure members by name; features of a molecule are computed once."""
    distinct = np.unique(smiles.astype(str)).astype(object)
    values = StructureKernel().fit(distinct)(distinct)
    kernel = TableKernel(pd.DataFrame(values, distinct, distinct))
    linear = recommended_pipeline(model="linear", random_state=SEED)
    linear.set_params(retriever__retriever__ridge=3.0)
    rows = linear["molecules"].fit_transform(distinct).toarray()
    table = pd.DataFrame(rows.astype(np.float32), distinct)
    lookup = FunctionTransformer(lambda X: table.loc[list(X)].to_numpy())
    return {
        "CCA": Pipeline([("molecules", lookup), linear.steps[1]]),
        "GP": GaussianProcessRetriever(kernel, heritability=0.85, random_state=SEED),
    }


def dealt(drugs, rng):
    """Return, for each row, a row of the drug whose molecule its own is given."""
    _, first, places = np.unique(drugs, return_index=True, return_inverse=True)
    return first[rng.permutation(len(first))[places]]


def methods(members, study, rng):
    """Return name, estimator, molecules and profiles of the training, of each row."""
    X, y, (drugs, lines) = study.smiles, study.ge, study.groups.T
    cosine = ConnectivityRetriever("cosine", unit="raw", summary="max")
    yield "connectivity", cosine, X, y
    for name, member in members.items():
        both = EvidenceRetriever(member, random_state=SEED)
        yield name, member, X, y
        yield f"{name}, evidence", both, X, y
        if name == "GP":
            means = pd.DataFrame(y).groupby(lines).transform("mean").to_numpy()
            yield f"{name}, shuffled molecules", both, X[dealt(drugs, rng)], y
            yield f"{name}, drug-blind", both, X, means


def draw_parts(study, n_draws):
    """Yield the training and the test rows, and whether a test drug was measured."""
    drugs = study.groups[:, 0]
    cv = DrugCellLineShuffleSplit(
        n_draws, test_cell_lines=6, hold_out="cell_lines", random_state=SEED
    )
    for draw, (train, test) in enumerate(cv.split(drugs, groups=study.groups)):
        rng = np.random.default_rng([SEED, draw])
        distinct = np.unique(drugs)
        hidden = rng.permutation(distinct)[: len(distinct) // 2]
        train = train[~np.isin(drugs[train], hidden)]
        yield draw, train, test, np.isin(drugs[test], drugs[train])


def measure(study, n_draws, chosen):
    """Return a table of all queries: draw, drug, measured, and ranks by method."""
    members = {k: v for k, v in structures(study.smiles).items() if k in chosen}
    tables = []
    for draw, train, test, measured in tqdm(
        draw_parts(study, n_draws), total=n_draws, unit="draw", disable=None
    ):
        asked = study[test]
        table = {"draw": draw, "drug": asked.groups[:, 0], "measured": measured}
        rng = np.random.default_rng([SEED, draw])
        for name, estimator, X, y in methods(members, study[train], rng):
            groups = () if name in members else (study.groups[train],)
            with warnings.catch_warnings():  # of molecules without a signature
                warnings.simplefilter("ignore", DataWarning)
                estimator.fit(X, y, *groups)
                table[name] = retrieval_ranks(
                    estimator, asked.smiles, asked.ge, drugs=asked.groups[:, 0]
                )
        tables.append(pd.DataFrame(table))
    return pd.concat(tables)


def add_arguments(parser):
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--structure", nargs="+", default=["CCA", "GP"])


def records(table):
    """Return scores with intervals over drugs, and gains over structure alone."""
    chosen = {
        "all": table,
        "measured": table[table["measured"]],
        "not measured": table[~table["measured"]],
    }
    candidates = float(table.groupby("draw")["drug"].nunique().mean())
    for part, queries in chosen.items():
        sizes = {"queries": len(queries), "candidates": candidates}
        for name in table.columns[3:]:
            ranks, drugs = queries[name], queries["drug"]
            pooled = bootstrap_scores(ranks, drugs, random_state=SEED).loc["mrr"]
            of_draws = (1 / ranks).groupby(queries["draw"]).mean()
            row = {
                "what": f"{name}; {part}",
                "sizes": sizes,
                "mean_of_draws": float(of_draws.mean()),
                "mrr": [float(pooled[c]) for c in ("score", "low", "high")],
            }
            if name.endswith("evidence"):
                alone = queries[name.split(",")[0]]
                gain = paired_comparison(ranks, alone, drugs, random_state=SEED)
                row["gain"] = [float(v) for v in (gain.difference, gain.low, gain.high)]
            yield row


def run(options):
    study = load_lincs(options.data, level=5)
    return list(records(measure(study, options.draws, options.structure)))
