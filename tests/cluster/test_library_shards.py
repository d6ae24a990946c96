"""examples/library_shards.py: shards give the answer of one index of the whole."""

import importlib
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("library_shards")


@pytest.fixture
def embedder(study):
    pipe = make_pipeline(MorganFingerprinter(fp_size=128), CCA(4, ridge=0.1))
    return pipe.fit(study.smiles, study.ge)


@pytest.fixture
def library(study, tmp_path):
    """Thirty molecules in files of 12, 1, 10 and 7 lines, one of them not readable."""
    smiles = list(dict.fromkeys(study.smiles))
    folder = tmp_path / "library"
    folder.mkdir()
    for i, part in enumerate(np.split(np.array(smiles, dtype=object), [12, 13, 23])):
        lines = [f"{text} m{smiles.index(text)}" for text in part]
        lines += ["C1CC broken"] if i == 2 else []
        (folder / f"part{i}.smi").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("reverse", [False, True])
def test_shards_are_one_index(reverse, example, study, embedder, library, tmp_path):
    for task in (1, 0):
        example.embed_files(
            embedder, library, tmp_path / "shards", task=task, n_tasks=2
        )
    whole = MoleculeIndex(embedder).fit(list(dict.fromkeys(study.smiles)))
    distances, rows = whole.kneighbors(study.ge[:5], 9, reverse=reverse)
    hits = example.search_shards(
        tmp_path / "shards", embedder, study.ge[:5], 9, reverse=reverse
    )
    assert hits["profile"].tolist() == np.repeat(range(5), 9).tolist()
    assert hits["place"].tolist() == [*range(1, 10)] * 5
    np.testing.assert_allclose(hits["distance"], distances.ravel(), atol=1e-6)
    assert hits["name"].tolist() == [f"m{row}" for row in rows.ravel()]
    expected = whole.get_molecules(rows.ravel())["smiles"].tolist()
    assert hits["smiles"].tolist() == expected


def test_the_command_embeds_resumes_and_answers(
    example, study, embedder, library, tmp_path, monkeypatch
):
    joblib.dump(embedder, tmp_path / "embedder.joblib")
    np.save(tmp_path / "profiles.npy", study.ge[:2])
    paths = [str(tmp_path / name) for name in ("embedder.joblib", "library", "shards")]
    fit, n_fits = MoleculeIndex.fit, []

    def fit_some(self, *args, **options):
        n_fits.append(1)
        if len(n_fits) == 3:
            raise KeyboardInterrupt
        return fit(self, *args, **options)

    monkeypatch.setattr(MoleculeIndex, "fit", fit_some)
    with pytest.raises(KeyboardInterrupt):
        example.main(["embed", *paths])
    assert len(list((tmp_path / "shards").iterdir())) == 2
    example.main(["embed", *paths])
    out = tmp_path / "hits.csv"
    profiles = str(tmp_path / "profiles.npy")
    query = [paths[0], paths[2], profiles, str(out), "--top", "3", "--reverse"]
    example.main(["query", *query])
    hits = pd.read_csv(out)
    assert len(hits) == 6
    assert (np.diff(hits["distance"].to_numpy().reshape(2, 3)) <= 0).all()
