import warnings

import numpy as np
import pytest

from sklearn_molge.__main__ import main
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation import draw_split
from sklearn_molge.exceptions import FewDrugsWarning
from sklearn_molge.metrics import mean_reciprocal_rank, retrieval_ranks
from sklearn_molge.persistence import describe_model, load_background, load_model
from sklearn_molge.retrieval import ConformalRetriever

pytest.importorskip("anndata")

BASE = ["train", "--data", "study.h5ad"]


def test_scores_are_of_unseen_drugs_in_unseen_lines(here, json_of):
    told = json_of(*BASE, "--model", "mine.py:make_pipeline", "--out", "new.molge")
    study = Study.load("study.h5ad")
    sizes = {"val_drugs": 0, "val_cell_lines": 0}
    split = draw_split(study.groups, random_state=0, **sizes)
    train, test = study[split.train], study[split.test]
    assert not set(train.groups[:, 0]) & set(test.groups[:, 0])
    assert not set(train.groups[:, 1]) & set(test.groups[:, 1])
    model = load_model("new.molge")
    ranks = retrieval_ranks(
        model.fit(train.smiles, train.profiles()), test.smiles, test.profiles()
    )
    scores = told["scores"]
    assert scores["mrr"]["score"] == pytest.approx(mean_reciprocal_rank(ranks))
    assert scores["mrr"]["low"] <= scores["mrr"]["score"] <= scores["mrr"]["high"]
    n = scores["n_candidates"]
    assert n == len(set(test.groups[:, 0]))
    assert scores["mrr"]["chance"] == pytest.approx(np.mean(1 / np.arange(1, n + 1)))


def test_the_file_says_what_it_is(here, capsys):
    name = "mine.py:make_pipeline"
    given = ["--model", name, "--out", "new.molge", "--data-licence", "CC BY 4.0"]
    assert main([*BASE, *given, "--description", "Ours"]) == 0
    out = capsys.readouterr().out
    assert "mean reciprocal rank of the right drug: " in out
    assert ", chance 0." in out
    card = describe_model("new.molge")
    assert (card.description, card.data_licence) == ("Ours", "CC BY 4.0")
    assert card.training_data.startswith("study.h5ad: Study: 240 profiles (level 5)")
    assert {"mrr", "hits@10", "mrr by chance"} <= set(card.scores.index)
    assert main([*BASE, "--model", name, "--no-score", "--out", "bare.molge"]) == 0
    assert describe_model("bare.molge").scores.empty


def test_it_is_trained_on_all_and_knows_its_genes(here):
    model, study = load_model("model.molge"), Study.load("study.h5ad")
    again = load_model("model.molge").fit(study.smiles, study.profiles())
    np.testing.assert_array_equal(
        model.transform(study.smiles), again.transform(study.smiles)
    )
    assert model[-1].gene_names_in_.tolist() == list(study.profiles())


def test_few_drugs_are_said_before_the_training(here, monkeypatch):
    given = [*BASE, "--model", "mine.py:make_pipeline", "--no-score", "--out"]
    n_drugs = len(set(Study.load("study.h5ad").groups[:, 0]))
    with pytest.warns(FewDrugsWarning, match=f"^{n_drugs} drugs to train on are few"):
        assert main([*given, "few.molge"]) == 0
    monkeypatch.setattr(FewDrugsWarning, "fewest", n_drugs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FewDrugsWarning)
        assert main([*given, "enough.molge"]) == 0


def test_sets_are_calibrated_by_drug_and_cell_line(here, json_of, capsys):
    """And an index of the model says what they leave out."""
    given = ["--model", "mine.py:make_pipeline", "--no-score"]
    assert main([*BASE, *given, "--coverage", "0.8", "--out", "sure.molge"]) == 0
    sure, study = load_model("sure.molge"), Study.load("study.h5ad")
    assert sure.coverage == 0.8
    again = ConformalRetriever(sure.retriever, 0.8, random_state=0)
    again.fit(study.smiles, study.profiles(), groups=study.groups)
    assert sure.least_similarity() == again.least_similarity()
    (here / "library.csv").write_text("smiles\n" + "\n".join(np.unique(study.smiles)))
    index = ["index", "--model", "sure.molge", "--library", "library.csv"]
    assert main([*index, "--out", "sets"]) == 0
    study.profiles().iloc[:1].to_csv("one.csv")
    capsys.readouterr()
    search = ["search", "--index", "sets", "--profile", "one.csv", "-n", "3"]
    assert main(search) == 0
    out = capsys.readouterr().out
    assert ("The 80 % set has " in out) == ("\nbetter than noise" in out)
    assert ("set says nothing" in out) == ("NO BETTER THAN NOISE" in out)
    assert "in_set" in out
    answers = json_of(*search)["answers"]
    assert {type(row["in_set"]) for row in answers} == {bool}
    assert main([*BASE, "--coverage", "1", "--out", "new.molge"]) == 2


@pytest.mark.parametrize("name", ["cca", "gp", "recommended"])
def test_models_by_name(here, name):
    small = ["--no-score", "--out", "new.molge", "--quiet"]
    assert main([*BASE, "--model", name, *small]) == 0
    kind = {"cca": "CCA"}.get(name, "GaussianProcessRetriever")
    assert kind in describe_model("new.molge").parameters


@pytest.mark.slow
def test_the_networks_of_the_paper(here):
    given = ["--model", "paper", "--no-score", "--out", "new.molge"]
    assert main([*BASE, *given]) == 0
    assert "CoordinatedEmbedder" in describe_model("new.molge").parameters


def test_intensities_become_z_scores(here, capsys):
    (here / "own.py").write_text((here / "mine.py").read_text().replace("5,", "3,"))
    given = ["--model", "own.py:make_pipeline", "--no-score", "--out", "new.molge"]
    assert main(["train", "--data", "b.h5ad", *given]) == 0
    out, err = capsys.readouterr()
    assert "Level 3: z-scores against the controls of each plate" in err
    assert "(level 4)" in err
    assert out == "The model is new.molge\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def make(", "SyntaxError"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("other = 1", "AttributeError"),
        ("def make(): return 1", "TypeError: make is no estimator"),
        ("def make(x): return x", "TypeError: make()"),
    ],
)
def test_a_file_that_makes_no_model(here, error_of, content, message):
    (here / "own.py").write_text(content)
    said = error_of(*BASE, "--model", "own.py:make", "--out", "new.molge")
    assert message in said
    assert "--model: own.py" in said


def test_what_cannot_be_stored_is_said_before_the_training(here, error_of):
    (here / "own.py").write_text(
        "from sklearn_molge.alignment import CCA\nclass Mine(CCA):\n    pass\n"
    )
    said = error_of(*BASE, "--model", "own.py:Mine", "--out", "new.molge")
    assert "Mine" in said
    assert not (here / "new.molge").exists()


def test_errors_come_before_any_work(here, error_of, monkeypatch):
    monkeypatch.setattr(
        "sklearn_molge._command.train.load_study", lambda given: pytest.fail("loaded")
    )
    out = ["--out", "new.molge"]
    assert "--model must be one of" in error_of(*BASE, "--model", "best", *out)
    assert "there is no no.py" in error_of(*BASE, "--model", "no.py:x", *out)
    said = error_of(*BASE, "--out", "model.molge")
    assert said.endswith("--out: model.molge is there; --force replaces it.")
    assert "there is no folder no" in error_of(*BASE, "--out", "no/new.molge")
    assert "--data: there is no x" in error_of("train", "--data", "x", *out)


def test_profiles_are_in_the_file_where_that_is_asked_for(here):
    given = [*BASE, "--model", "mine.py:make_pipeline", "--no-score", "--out"]
    assert main([*given, "without.molge"]) == 0
    assert load_background("without.molge") is None
    assert main([*given, "with.molge", "--background"]) == 0
    study, kept = Study.load("study.h5ad"), load_background("with.molge")
    assert set(kept.smiles) == set(study.smiles)
    np.testing.assert_array_equal(kept.profiles.to_numpy(), study.ge)
    assert describe_model("with.molge").n_background_profiles == len(study)


def test_a_saved_study_is_told_by_its_content(here):
    Study.load("study.h5ad").save("study")
    given = ["--model", "mine.py:make_pipeline", "--no-score", "--out", "any.molge"]
    assert main(["train", "--data", "study", *given]) == 0
    n_genes = Study.load("study.h5ad").ge.shape[1]
    assert describe_model("any.molge").n_genes == n_genes
