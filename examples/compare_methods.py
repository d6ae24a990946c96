"""
Classical methods and trained towers, as Pipelines, against chance and oracles
==============================================================================

Which molecule causes this expression profile? Each method is fitted on training drugs
in training cell lines, then ranks molecules never profiled before for the profiles of
unseen drugs in unseen lines: the baselines of Finlayson et al. 2020, and towers that
are trained together. Two oracles, which look at the test drugs' own profiles, show how
far a perfect molecule encoder could get. Then one profile is asked, and the answer is
drawn.

Run it on the simulated study, or on a folder laid out like the public LINCS releases::

    python examples/compare_methods.py
    python examples/compare_methods.py --data path/to/lincs_folder --level 5
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sklearn_molge.alignment import CCA, PRESETS, CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import load_lincs, make_perturbation_study
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.library import MoleculeIndex, MoleculeQueryDisplay
from sklearn_molge.metrics import (
    RetrievalCurveDisplay,
    bootstrap_scores,
    chance_scores,
    paired_comparison,
    retrieval_ranks,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    TransformedTargetRetriever,
    recommended_pipeline,
)

SEED = 0
BASELINE = "nearest neighbours, twice (D-NN)"
LINEAR = "linear (CCA), Morgan fingerprints"
BEST = "Gaussian process over structures"
SHUFFLED = "linear, molecules shuffled"
CEILINGS = {
    "oracle_train_lines": "ceiling: the drug's profiles in training lines",
    "oracle_test_lines": "ceiling: its other profiles in the test lines",
}


# %%
# The methods. Of a level 3 study, [treated | control], the change against the plate's
# controls goes in; the z-scores of level 5 go in as they are.


def profile_features(level):
    """Return the transformer of the profiles for a study of this level."""
    if level == 3:
        return L1000Featurizer(["log2_fold_change"])
    return FunctionTransformer()


def methods(level):
    """Return the methods of the table by name."""

    def pipeline(retriever):
        target = TransformedTargetRetriever(retriever, profile_features(level))
        return make_pipeline(MorganFingerprinter(), target)

    return {
        BASELINE: pipeline(DoubleNNRetriever()),
        LINEAR: pipeline(CCA(50, random_state=SEED)),
        "linear, six kinds of features": recommended_pipeline(
            model="linear", transformer=profile_features(level), random_state=SEED
        ),
        BEST: recommended_pipeline(
            transformer=profile_features(level), random_state=SEED
        ),
    }


# %%
# The towers that are trained: a D-MPNN of the molecular graph with the InfoNCE loss,
# and the recommended settings, which start from CCA.


def trained_towers(level):
    """Return the methods that are trained; each epoch prints a line."""
    shared = {
        "random_state": SEED,
        "verbose": 1,
        "callbacks__print_log__sink": tqdm.write,
    }
    graph = CoordinatedEmbedder(
        "random",
        criterion=InfoNCELoss,
        sampler=DrugBalancedSampler,
        module__unit_profiles=True,
        module__expression_layers=(512,),
        module__input_dropout=0.3,
        module__head_input_dropout=0.2,
        max_epochs=6 if level == 3 else 12,  # an epoch of wells has more steps
        **shared,
    )
    recommended = CoordinatedEmbedder(**PRESETS["recommended"], **shared)
    return {
        name: TransformedTargetRetriever(embedder, profile_features(level))
        for name, embedder in (
            ("two towers, graph network", graph),
            ("two towers, recommended", recommended),
        )
    }


# %%
# The splits: a share of the drugs and of the cell lines is held out, and rows that
# share one of the two with the test rows are in neither part.


def profiles_of(study):
    """Return what the methods see: pairs with controls, or z-scores."""
    return study.paired_ge() if study.level == 3 else study.ge


def splits(n_draws):
    """Hold out a third of the drugs, and a quarter of the cell lines."""
    return DrugCellLineShuffleSplit(
        n_draws, test_drugs=0.35, test_cell_lines=0.25, random_state=SEED
    )


def evaluate(study, *, n_draws=2):
    """Rank every test profile of every draw by every method.

    Returns
    -------
    ranks : dict of str to ndarray
        The ranks of each method, over all draws.
    queries : DataFrame
        Draw, drug and number of candidates of each query.
    """
    X, y, cv = study.smiles, profiles_of(study), splits(n_draws)
    estimators = methods(study.level)
    estimators[SHUFFLED] = estimators[LINEAR]
    oracle = TransformedTargetRetriever(
        OracleRetriever(), profile_features(study.level)
    )
    estimators |= dict.fromkeys(CEILINGS.values(), oracle)
    estimators |= trained_towers(study.level)
    seen = {name: clone(cv).set_params(train=train) for train, name in CEILINGS.items()}
    ranks = {name: [] for name in estimators}
    bar = tqdm(total=n_draws * len(estimators), unit="fit", disable=None)
    for name, estimator in estimators.items():
        rng = np.random.default_rng(SEED)
        for train, test in seen.get(name, cv).split(X, groups=study.groups):
            bar.set_description(name)
            molecules = X[rng.permutation(train) if name == SHUFFLED else train]
            model = clone(estimator).fit(molecules, y[train])
            ranks[name].append(
                retrieval_ranks(model, X[test], y[test], drugs=study.groups[test, 0])
            )
            bar.update()
    bar.close()
    drugs = study.groups[:, 0]
    parts = [
        splitter.split(X, groups=study.groups) for splitter in (cv, *seen.values())
    ]
    queries = [
        pd.DataFrame(
            {
                "draw": draw,
                "drug": drugs[test],
                "n_candidates": len(np.unique(drugs[test])),
                "n_train": len(train),
                "in training lines": np.isin(drugs[test], drugs[in_train_lines]),
                "in the test lines": pd.Series(drugs[test]).duplicated(keep=False),
            }
        )
        for draw, ((train, test), (in_train_lines, _), _) in enumerate(
            zip(*parts, strict=True)
        )
    ]
    ranks = {name: np.concatenate(parts) for name, parts in ranks.items()}
    return ranks, pd.concat(queries, ignore_index=True)


# %%
# The table: each score with an interval that resamples whole drugs.


def score_table(ranks, queries):
    """Return one row a method: scores, 95 % intervals, gain over D-NN."""
    chance = chance_scores(queries["n_candidates"], k=(1, 10, 100))
    rows = {
        "chance": {
            "MRR": f"{chance['mrr']:.3f}",
            "MR": f"{chance['median_rank']:.1f}",
            **{f"H@{k}": f"{chance[f'hits@{k}']:.3f}" for k in (1, 10, 100)},
        }
    }
    for name, values in ranks.items():
        scores = bootstrap_scores(values, queries["drug"], random_state=SEED)
        text = {
            column: f"{s.score:.{d}f} [{s.low:.{d}f}, {s.high:.{d}f}]"
            for column, key, d in (
                ("MRR", "mrr", 3), ("MR", "median_rank", 1), ("H@1", "hits@1", 3),
                ("H@10", "hits@10", 3), ("H@100", "hits@100", 3),
            )
            for s in [scores.loc[key]]
        }  # fmt: skip
        gain = paired_comparison(
            values, ranks[BASELINE], queries["drug"], random_state=SEED
        )
        p = "p<0.001" if gain.p_value < 0.001 else f"p={gain.p_value:.3f}"
        text["MRR - D-NN"] = (
            f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        )
        text["p"] = p
        rows[name] = text
    return pd.DataFrame(rows).T.fillna("")


def draw(ranks, queries, path):
    """Save the recall curves of all methods."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(10, 5.5), layout="constrained")
    for i, (name, values) in enumerate(ranks.items()):
        RetrievalCurveDisplay.from_predictions(
            values, queries["n_candidates"], drugs=queries["drug"], name=name,
            ax=ax, plot_chance=i == 0, random_state=SEED,
        )  # fmt: skip
    ax.set_title("Unseen drugs in unseen cell lines")
    handles, labels = ax.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -handles[i].get_ydata().mean())
    ax.legend([handles[i] for i in order], [labels[i] for i in order],
              loc="center left", bbox_to_anchor=(1, 0.5))  # fmt: skip
    figure.savefig(path, dpi=120)
    plt.close(figure)


# %%
# The answer to one query. It is drawn by lot, and need not be a good one.


def ask(study, folder, *, n_answers=10):
    """Fit the best method, ask it with one test profile, and draw what it answers.

    The library are the molecules of the test drugs: the model has seen none of them.
    """
    import matplotlib

    matplotlib.use("Agg")
    X, y = study.smiles, profiles_of(study)
    train, test = next(splits(1).split(X, groups=study.groups))
    model = methods(study.level)[BEST].fit(X[train], y[train])
    index = MoleculeIndex(model).fit(X[test])
    index.calibrate(X[train], y[train])
    row = np.random.default_rng(SEED).choice(test)
    answer = index.query(y[[row]], n_answers, groups=[f"profile {row}"])
    rank = index.rank(y[[row]], X[[row]])[0]
    answer.to_html(folder / "answer.html")
    display = MoleculeQueryDisplay.from_table(answer).plot()
    display.figure_.savefig(folder / "answer.png", dpi=120)
    verdict = "is" if answer["better_than_noise"].all() else "is NOT"
    print(
        f"\nOne query, drawn by lot: profile {row}, of {study.groups[row, 1]}. "
        f"{BEST} ranks\nthe molecule that caused it {rank:g} of "
        f"{index.n_molecules_}; the answer {verdict} better than noise.\n"
    )
    shown = answer[["rank", "molecule", "score", "percentile", "nearest_similarity"]]
    print(shown.head(5).round(3).to_string(index=False), end="\n\n")


def load(data, level):
    """Read a folder, or simulate a study of that level."""
    if data == "simulated":
        return make_perturbation_study(level=level, random_state=SEED)
    return load_lincs(data, level=level)


def main(arguments=None):
    """Run the example from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--data", default="simulated", help="folder, or 'simulated'")
    parser.add_argument("--level", type=int, default=5, choices=(3, 4, 5))
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    parser.add_argument("--draws", type=int, default=2)
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    study = load(options.data, options.level)
    print(study, end="\n\n")
    if options.data == "simulated":
        print("This takes about two minutes on two free cores.\n", flush=True)
    ranks, queries = evaluate(study, n_draws=options.draws)
    n_candidates = queries.groupby("draw")["n_candidates"].first().tolist()
    print(
        f"Unseen drugs in unseen cell lines: {len(queries):,} queries, each ranks "
        f"{' or '.join(map(str, n_candidates))} molecules.\n"
        "MRR: mean of 1 / rank of the molecule that caused the profile, 1 if it were "
        "always first.\nMR: median rank. H@10: share of the queries that have it "
        "among the first ten.\nIn brackets 95 % intervals over drugs. Ceilings rank "
        "by measured profiles of\nthe same drug; shuffled molecules are chance.\n"
    )
    table = score_table(ranks, queries)
    print(table[["MRR", "MR", "H@10", "MRR - D-NN"]].to_string(), end="\n\n")
    for lines in ("training lines", "the test lines"):
        share = queries[f"in {lines}"].mean()
        print(
            f"A ceiling knows another profile of the query's drug in {lines} for "
            f"{share:.0%} of the queries; it ranks the others last."
        )
    table.to_csv(options.out / "scores.csv")
    draw(ranks, queries, options.out / "recall.png")
    ask(study, options.out)
    print(
        f"All scores, the recall curves, and the answer as a picture and a page are in "
        f"{options.out}{os.sep} ({time.perf_counter() - start:.0f} s)."
    )


if __name__ == "__main__":
    # BLAS and torch take all cores: beside other work that is many times slower.
    with threadpool_limits(None if "OMP_NUM_THREADS" in os.environ else 1):
        sys.exit(main())
