"""What a file says of its model, before anything of it is built."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import sklearn

from sklearn_molge.exceptions import ModelVersionWarning
from sklearn_molge.metrics import bootstrap_scores
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import describe_model, load_model, save_model

HOSTILE = '<script>alert("x")</script> & | \x1b[2J'


@pytest.fixture
def card(pipe, tmp_path):
    save_model(
        pipe,
        tmp_path / "a.molge",
        description="Finds analogues.\nOf kinases.",
        training_data="Simulated: 20 molecules.",
        scores={"mrr": (0.21, 0.18, 0.24), "hits@10": 0.5},
        data_licence="CC-BY-4.0",
    )
    return describe_model(tmp_path / "a.molge")


def test_what_is_known_is_told(card, pipe):
    assert card.name == "Pipeline of CCA"
    assert card.description == "Finds analogues.\nOf kinases."
    assert card.data_licence == "CC-BY-4.0"
    assert (card.n_genes, card.n_molecules, card.n_components) == (24, 20, 3)
    assert card.genes == tuple(pipe[-1].gene_names_in_)
    assert card.versions["scikit-learn"] == sklearn.__version__
    assert "torch" not in card.versions
    assert card.scores.loc["mrr"].tolist() == [0.21, 0.18, 0.24]
    assert card.scores.loc["hits@10"].isna().tolist() == [False, True, True]
    assert len(card.identity) == 64


def test_text_markdown_and_html_say_the_same(card):
    texts = str(card), card.to_markdown(), card._repr_html_(), card.to_html()
    for text in texts:
        for fact in ("CC-BY-4.0", "0.21 (0.18 to 0.24)", "Finds analogues.",
                     "24 (", "20 distinct molecules", card.identity):  # fmt: skip
            assert fact in text, fact
    assert "Content-Security-Policy" in texts[3]
    assert texts[2] in texts[3] or texts[2].strip() in texts[3]


def test_what_others_wrote_is_text(pipe, tmp_path):
    save_model(pipe, tmp_path / "a.molge", description=HOSTILE, scores={HOSTILE: 1.0})
    card = describe_model(tmp_path / "a.molge")
    assert card.description == HOSTILE
    for text in (card.to_html(tmp_path / "card.html"), card.to_markdown()):
        assert "<script" not in text
        assert "&lt;script&gt;" in text
    assert "\x1b" not in str(card)
    assert (tmp_path / "card.html").read_text(encoding="utf-8") == card.to_html()
    assert r"\|" in card.to_markdown()


def test_what_is_not_known_is_not_made_up(tmp_path):
    save_model(MorganFingerprinter(), tmp_path / "a.molge")
    card = describe_model(tmp_path / "a.molge")
    assert card.name == "MorganFingerprinter"
    assert card.n_genes is card.n_molecules is card.n_components is None
    assert card.genes == ()
    assert "not stated" in str(card)
    assert "Genes" not in card.facts()


def test_scores_as_a_table(pipe, tmp_path):
    drugs = np.repeat(["a", "b", "c"], 2)
    table = bootstrap_scores(np.array([1, 2, 1, 5, 1, 3]), drugs, random_state=0)
    save_model(pipe, tmp_path / "a.molge", scores=table)
    pd.testing.assert_frame_equal(
        describe_model(tmp_path / "a.molge").scores, table, check_names=False
    )


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (0.5, "scores must be a mapping"),
        ({"mrr": "good"}, r"scores\['mrr'\] must be a number"),
        ({"mrr": (1, 2)}, r"scores\['mrr'\] must be a number, or \(score, low, high\)"),
        ({"mrr": (1, 3, 2)}, r"scores\['mrr'\] has the interval 3\.0 to 2\.0"),
        (pd.DataFrame({"mrr": [1]}), 'must have a column "score"'),
    ],
)
def test_other_scores_are_refused(pipe, tmp_path, scores, message):
    with pytest.raises(ValueError, match=message):
        save_model(pipe, tmp_path / "a.molge", scores=scores)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["description", "training_data", "data_licence"])
def test_texts_are_texts(pipe, tmp_path, name):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        save_model(pipe, tmp_path / "a.molge", **{name: 3})


def test_equal_models_make_equal_parts(pipe, tmp_path):
    save_model(pipe, tmp_path / "a.molge")
    save_model(pipe, tmp_path / "b.molge", description="Other words.")
    first, second = (zipfile.ZipFile(tmp_path / f"{name}.molge") for name in "ab")
    with first, second:
        for name in set(first.namelist()) - {"manifest.json"}:
            assert first.read(name) == second.read(name)
        told = json.loads(first.read("manifest.json"))
    assert describe_model(tmp_path / "b.molge").identity == told["identity"]
    pipe_of_others = type(pipe)(pipe.steps[:1])
    save_model(pipe_of_others, tmp_path / "c.molge")
    assert describe_model(tmp_path / "c.molge").identity != told["identity"]


@pytest.mark.parametrize(
    ("package", "is_told"),
    [("scikit-learn", True), ("rdkit", True), ("sklearn_molge", True),
     ("numpy", False), ("python", False)],
)  # fmt: skip
def test_other_versions_are_told(
    pipe, tmp_path, monkeypatch, package, is_told, recwarn
):
    real = {}
    module = "sklearn_molge.persistence._model_file._versions"

    def versions(has_tensors):
        return {**real, package: "0.7.2"}

    save_model(pipe, tmp_path / "a.molge")
    real.update(describe_model(tmp_path / "a.molge").versions)
    with monkeypatch.context() as patch:
        patch.setattr(module, versions)
        save_model(pipe, tmp_path / "b.molge")
    if is_told:
        with pytest.warns(ModelVersionWarning, match=rf"{package} 0\.7\.2 \(here"):
            load_model(tmp_path / "b.molge")
    else:
        load_model(tmp_path / "b.molge")
    assert not [w for w in recwarn if w.category is not ModelVersionWarning]


def test_a_model_of_another_scikit_learn_warns_once(pipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "1.2.3")
        patch.setattr(
            "sklearn_molge.persistence._model_file.version",
            lambda name: "1.2.3" if name == "scikit-learn" else "9.9",
        )
        save_model(pipe, tmp_path / "a.molge")
    with pytest.warns(ModelVersionWarning) as caught:
        load_model(tmp_path / "a.molge")
    assert len(caught) == 1
    assert caught[0].filename == __file__
