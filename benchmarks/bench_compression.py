"""What float16 and int8 cost a real library that is asked with held-out profiles.

``recommended_pipeline`` is trained without
some drugs and cell lines and embeds the library once; its vectors are stored in each
precision, and the held-out profiles are the queries::

    python benchmarks/bench_compression.py path/to/lincs_folder compoundinfo.txt.gz
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _timing import describe_machine

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from search_library import divide

from sklearn_molge.datasets import load_lincs
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.library._embedder import embed_profiles
from sklearn_molge.library._search import mid_ranks, top_k
from sklearn_molge.library._store import VectorStore
from sklearn_molge.metrics import chance_scores, retrieval_scores
from sklearn_molge.molecules import drug_ids
from sklearn_molge.retrieval import recommended_pipeline

K = 10


def stored_as(dtype, index):
    """Store the vectors of an index in another precision."""
    source = index.store_
    rows = np.arange(source.n_rows)
    store = VectorStore.create(
        None,
        n_components=source.n_components,
        dtype=dtype,
        metric=source.metric,
        identity={},
    )
    store.append(source.stored(slice(None)), *source.molecules(rows))
    return store


def own_rows(index, smiles):
    """Return the rows of each molecule, isomers and salts too, and which are there."""
    library = pd.Series(drug_ids(index.get_molecules()["smiles"]))
    rows = library.groupby(library).indices
    drugs = drug_ids(smiles)
    known = np.isin(drugs, list(rows))
    return [rows[drug] for drug in drugs[known]], known


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of level 5")
    parser.add_argument("library", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    describe_machine("rdkit")
    train, test = divide(load_lincs(options.data, level=5))
    pipe = recommended_pipeline(model="linear", random_state=0).fit(
        train.smiles, train.ge
    )
    start = time.perf_counter()
    # The best molecule of a drug counts in a rank, so isomers may stay.
    index = MoleculeIndex(pipe, unique_by="smiles", n_jobs=options.jobs)
    index.fit(MoleculeFile(options.library))
    print(
        f"{index.n_molecules_:,} molecules x {index.store_.n_components}, embedded in "
        f"{time.perf_counter() - start:.0f} s; {len(test):,} held-out profiles"
    )
    queries = embed_profiles(pipe, test.ge)
    own, known = own_rows(index, test.smiles)
    exact, table = None, {}
    for dtype in ("float32", "float16", "int8"):
        store = stored_as(dtype, index)
        rows = top_k(store, queries, K)[1]
        ranks = mid_ranks(store, queries[known], own)
        if exact is None:
            exact = rows, ranks
        recall = [len(set(a) & set(b)) / K for a, b in zip(rows, exact[0], strict=True)]
        change = np.abs(ranks - exact[1])
        table[dtype] = {
            f"recall at {K}": np.mean(recall),
            "MB, texts included": store.nbytes / 1e6,
            **retrieval_scores(ranks, k=(10, 100, 1000)),
            "median change of rank": np.median(change),
            "largest change": change.max(),
            "largest relative": (change / exact[1]).max(),
        }
    chance = chance_scores(index.n_molecules_, k=(10, 100, 1000))
    frame = pd.DataFrame(table).assign(chance=pd.Series(chance))
    print(frame.round(4).to_string())
    print(f"{known.sum()} of {len(known)} held-out profiles have their molecule there.")


if __name__ == "__main__":
    main()
