"""Genes have names: every two-view estimator knows those that it was fitted on."""

from functools import partial

import anndata
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA, CoordinatedEmbedder, FittedTower
from sklearn_molge.datasets import load_lincs
from sklearn_molge.expression import (
    L1000Featurizer,
    align_profiles,
    match_genes,
    profile_from_genes,
    robust_zscore,
)
from sklearn_molge.inspection import (
    atom_attribution,
    gene_attribution,
    training_distances,
)
from sklearn_molge.metrics import (
    RetrievalScorer,
    pairwise_similarity,
    retrieval_ranks,
    similarity,
)
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    ConformalRetriever,
    ConnectivityRetriever,
    DoubleNNRetriever,
    OracleRetriever,
    PredictedProfileRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

N_GENES = 6
GENES = [f"G{i}" for i in range(N_GENES)]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4))
VALUES = np.hstack([X[:, :3], RNG.normal(size=(24, 3))])
FRAME = pd.DataFrame(VALUES, columns=GENES)
REVERSED = FRAME.iloc[:, ::-1]

cca = partial(CCA, 3, ridge=0.1)
ESTIMATORS = {
    "CCA": cca(),
    "ConformalRetriever": ConformalRetriever(
        TransformedTargetRetriever(cca(), StandardScaler()), cv=2, random_state=0
    ),
    "CoordinatedEmbedder": CoordinatedEmbedder(
        None, max_epochs=1, verbose=0, random_state=0, device="cpu"
    ),
    "DoubleNNRetriever": DoubleNNRetriever("correlation"),
    "ConnectivityRetriever": ConnectivityRetriever(n_genes=2, random_state=0),
    "OracleRetriever": OracleRetriever(),
    "PredictedProfileRetriever": PredictedProfileRetriever(Ridge()),
    "RandomRetriever": RandomRetriever(0),
    "VotingRetriever": VotingRetriever([("a", cca()), ("b", RandomRetriever(0))]),
    "of the same": TransformedTargetRetriever(cca()),
    "of a scaler": TransformedTargetRetriever(cca(), StandardScaler()),
    "of features": TransformedTargetRetriever(cca(), L1000Featurizer()),
    "of two steps": TransformedTargetRetriever(
        VotingRetriever([("a", TransformedTargetRetriever(cca(), PCA(4)))]),
        make_pipeline(StandardScaler(), PCA(5)),
    ),
}
all_estimators = pytest.mark.parametrize(
    "estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys()
)
FORMS = {
    "pandas": FRAME,
    "polars": pl.from_pandas(FRAME),
    "pyarrow": pl.from_pandas(FRAME).to_arrow(),
    "AnnData": anndata.AnnData(FRAME.set_index(FRAME.index.astype(str))),
}
all_forms = pytest.mark.parametrize("y", FORMS.values(), ids=FORMS.keys())


@all_estimators
@all_forms
def test_names_are_kept_and_the_values_the_same(estimator, y):
    named, plain = clone(estimator).fit(X, y), clone(estimator).fit(X, VALUES)
    assert named.gene_names_in_.tolist() == GENES
    assert named.gene_names_in_.dtype == object
    np.testing.assert_allclose(
        named.similarity(X, y), plain.similarity(X, VALUES), rtol=1e-5, atol=1e-6
    )


@all_estimators
def test_other_order_is_refused(estimator):
    fitted = clone(estimator).fit(X, FRAME)
    calls = [
        partial(fitted.similarity, X),
        fitted.compare_to(X),
        partial(fitted.score, X),
        partial(similarity, fitted, X),
        partial(retrieval_ranks, fitted, X),
        partial(retrieval_ranks, fitted, X, per="drug"),
        partial(RetrievalScorer(), fitted, X),
    ]
    if hasattr(fitted, "transform_ge"):
        calls.append(fitted.transform_ge)
    if hasattr(fitted, "partial_fit"):
        calls.append(partial(fitted.partial_fit, X))
    for call in calls:
        with pytest.raises(ValueError, match="must be in the same order") as info:
            call(REVERSED)
        assert "align_profiles(y, estimator)" in str(info.value)


@all_estimators
def test_other_names_are_listed(estimator):
    fitted = clone(estimator).fit(X, FRAME)
    other = FRAME.rename(columns={"G1": "H1", "G4": "H4"})
    message = (
        r"should match those that were passed during fit(.|\n)*"
        r"unseen at fit time \(2\):\n- H1\n- H4\n(.|\n)*"
        r"now missing \(2\):\n- G1\n- G4"
    )
    with pytest.raises(ValueError, match=message):
        fitted.similarity(X, other)
    with pytest.raises(ValueError, match=r"now missing \(1\):\n- G0"):
        fitted.similarity(X, FRAME.iloc[:, 1:])


@all_estimators
def test_names_on_one_side_only_warn_once(estimator):
    named, plain = clone(estimator).fit(X, FRAME), clone(estimator).fit(X, VALUES)
    name = type(estimator).__name__
    with pytest.warns(UserWarning, match=f"{name} was fitted with gene names") as told:
        found = named.similarity(X, VALUES)
    assert len(told) == 1
    with pytest.warns(UserWarning, match=f"{name} was fitted without gene na") as told:
        np.testing.assert_array_equal(plain.similarity(X, FRAME), found)
    assert len(told) == 1


@all_estimators
def test_a_fit_without_names_forgets_them(estimator):
    fitted = clone(estimator).fit(X, FRAME)
    fitted.fit(X, VALUES)
    assert not hasattr(fitted, "gene_names_in_")
    fitted.similarity(X, VALUES)


@all_estimators
@pytest.mark.parametrize("form", ["pandas", "polars", "pyarrow"])
@pytest.mark.filterwarnings("ignore:.* have no measured signature")
def test_cross_validation_keeps_them(estimator, form):
    found = cross_validate(
        make_pipeline(StandardScaler(), estimator),
        X,
        FORMS[form],
        scoring=RetrievalScorer(),
        cv=3,
        return_estimator=True,
        error_score="raise",
    )
    for pipe in found["estimator"]:
        assert pipe[-1].gene_names_in_.tolist() == GENES
    plain = cross_validate(
        make_pipeline(StandardScaler(), estimator),
        X,
        VALUES,
        scoring=RetrievalScorer(),
        cv=3,
        error_score="raise",
    )
    np.testing.assert_allclose(found["test_mrr"], plain["test_mrr"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: GridSearchCV(
            e, {"cca__ridge": [0.1]}, scoring=RetrievalScorer("mrr"), cv=2
        ),
        lambda e: FrozenEstimator(e.fit(X, FRAME)),
    ],
)
def test_searches_and_frozen_estimators_pass_them_on(wrap):
    fitted = wrap(make_pipeline(StandardScaler(), cca())).fit(X, FRAME)
    retrieval_ranks(fitted, X, FRAME)
    with pytest.raises(ValueError, match="in the same order"):
        retrieval_ranks(fitted, X, REVERSED)


def test_a_tower_has_those_of_its_embedder():
    tower = FittedTower(cca().fit(X, FRAME), view="profiles")
    assert tower.gene_names_in_.tolist() == GENES
    assert not hasattr(FittedTower(cca().fit(X, VALUES)), "gene_names_in_")
    with pytest.raises(ValueError, match="in the same order"):
        tower.transform(REVERSED)
    outer = TransformedTargetRetriever(cca(), tower).fit(X, FRAME)
    with pytest.raises(ValueError, match="in the same order"):
        outer.similarity(X, REVERSED)


def test_whole_numbers_are_names_unless_they_count():
    ids = [16, 23, 25, 30, 39, 102]
    entrez = pd.DataFrame(VALUES, columns=ids)
    fitted = cca().fit(X, entrez)
    assert fitted.gene_names_in_.tolist() == [str(i) for i in ids]
    with pytest.raises(ValueError, match="in the same order"):
        fitted.transform_ge(entrez.iloc[:, ::-1])
    assert not hasattr(cca().fit(X, pd.DataFrame(VALUES)), "gene_names_in_")


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([7157.0, 4609.0, 672.0], ["7157", "4609", "672"]),
        (
            pd.MultiIndex.from_tuples([("TP53", 7157), ("MYC", 4609), ("BRCA1", 672)]),
            ["TP53|7157", "MYC|4609", "BRCA1|672"],
        ),
    ],
    ids=["floats", "levels"],
)
def test_columns_that_scikit_learn_does_not_read_are_names_too(columns, expected):
    y = pd.DataFrame(VALUES[:, :3], columns=columns)
    fitted = DoubleNNRetriever().fit(X, y)
    assert fitted.gene_names_in_.tolist() == expected
    with pytest.raises(ValueError, match="in the same order"):
        fitted.similarity(X, y.iloc[:, ::-1])


def test_a_name_twice_is_refused():
    twice = FRAME.set_axis(["G0", "G0", *GENES[2:]], axis=1)
    with pytest.raises(ValueError, match="More than once: G0"):
        cca().fit(X, twice)


def test_genes_in_rows_are_recognised():
    fitted = cca().fit(X, FRAME)
    with pytest.raises(ValueError, match=r"its genes in the rows: give y\.T"):
        fitted.transform_ge(FRAME.T)
    with pytest.raises(ValueError, match=r"its genes in the rows"):
        fitted.transform_ge(FRAME.iloc[0])
    with pytest.raises(ValueError, match=r"its genes in the rows"):
        fitted.transform_ge(FRAME.iloc[[0]].T)
    with pytest.raises(ValueError, match=r"y has 3 genes, but CCA was fitted on 6"):
        fitted.transform_ge(VALUES[:, :3])
    with pytest.raises(ValueError, match=r"y\.reshape\(1, -1\)"):
        fitted.transform_ge(VALUES[0])


def test_weights_carry_the_names(tmp_path):
    net = partial(CoordinatedEmbedder, None, max_epochs=1, verbose=0, random_state=0)
    net().fit(X, FRAME).save_params(f_params=tmp_path / "w.pt")
    read = net(module__n_genes=6, module__n_features=X.shape[1]).initialize()
    read.load_params(f_params=tmp_path / "w.pt")
    assert read.gene_names_in_.tolist() == GENES
    with pytest.raises(ValueError, match="in the same order"):
        read.transform_ge(FRAME.iloc[:, ::-1])
    net().fit(X, VALUES).save_params(f_params=tmp_path / "w.pt")
    read.load_params(f_params=tmp_path / "w.pt")
    assert not hasattr(read, "gene_names_in_")


def test_text_that_is_no_names():
    mixed = FRAME.set_axis([1, *GENES[1:]], axis=1)
    with pytest.raises(TypeError, match="string names"):
        cca().fit(X, mixed)


def test_a_gene_query_matches_by_either_name():
    genes = pd.DataFrame({"gene_id": range(10, 16), "symbol": GENES})
    query = profile_from_genes(genes, up=["G1"], down=["G4"])
    by_id = cca().fit(X, FRAME.set_axis(genes["gene_id"].astype(str), axis=1))
    by_symbol, plain = cca().fit(X, FRAME), cca().fit(X, VALUES)
    for fitted in (by_id, by_symbol, plain):
        np.testing.assert_allclose(
            fitted.similarity(X, query), plain.similarity(X, query.profile), rtol=1e-9
        )
    other = profile_from_genes(genes[::-1], up=["G1"], down=["G4"])
    for fitted in (by_id, by_symbol):
        with pytest.raises(ValueError, match="in the same order"):
            fitted.similarity(X, other)


def test_anndata_and_queries_are_ranked():
    fitted = cca().fit(X, FRAME)
    for per in ("profile", "drug"):
        ranks = retrieval_ranks(fitted, X, FRAME, per=per)
        for y in FORMS.values():
            np.testing.assert_array_equal(retrieval_ranks(fitted, X, y, per=per), ranks)
    query = profile_from_genes(fitted, up=["G1"], down=["G4"])
    retrieval_ranks(fitted, X[:1], query)


@pytest.mark.parametrize("form", ["Series", "row", "polars", "AnnData", "GeneQuery"])
@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_attributions_know_the_genes(form, method):
    smiles = np.array(["CCO", "CCN", "CCC", "c1ccccc1O", "CCS", "CC=O"], dtype=object)
    frame = FRAME[:6]
    net = CoordinatedEmbedder(
        "random", max_epochs=1, verbose=0, random_state=0, device="cpu"
    )
    net.fit(smiles, frame)
    profile = {
        "Series": frame.iloc[0],
        "row": frame[:1],
        "polars": pl.from_pandas(frame[:1]),
        "AnnData": anndata.AnnData(frame.set_index(frame.index.astype(str)))[:1],
        "GeneQuery": profile_from_genes(net, values=frame.iloc[0]),
    }[form]
    found = gene_attribution(net, "CCO", profile, method=method)
    assert sorted(found.table["gene"]) == GENES
    atom_attribution(net, "CCO", profile, method=method)
    if form == "row":
        for explain in (gene_attribution, atom_attribution):
            with pytest.raises(ValueError, match="in the same order"):
                explain(net, "CCO", profile.iloc[:, ::-1], method=method)


# Two tables of profiles.


def test_similarity_of_tables_in_another_order():
    with pytest.raises(ValueError, match=r"in the same order\. Their order differs"):
        pairwise_similarity(FRAME, REVERSED)
    other = FRAME.add_prefix("mol")  # two embeddings, each with names of its own
    np.testing.assert_allclose(
        pairwise_similarity(FRAME, other), pairwise_similarity(VALUES, VALUES)
    )


def test_similarity_of_tables_whose_names_say_nothing():
    table = FRAME.set_axis([1, *GENES[1:]], axis=1)
    assert pairwise_similarity(table, table).shape == (len(X), len(X))


def test_controls_of_other_genes():
    plates = ["P"] * len(X)
    robust_zscore(FRAME, plates, control_ge=FRAME, control_plates=plates)
    for other in (REVERSED, FRAME.rename(columns={"G0": "H0"})):
        with pytest.raises(ValueError, match="ge and control_ge must have the same co"):
            robust_zscore(FRAME, plates, control_ge=other, control_plates=plates)


def test_distances_to_training_profiles_of_other_genes():
    training_distances(X, FRAME, X, FRAME)
    with pytest.raises(ValueError, match="y_train and y_test must have the same colum"):
        training_distances(X, FRAME, X, REVERSED)


# On real profiles.


def test_real_profiles_in_another_order(level5_folder):
    study = load_lincs(level5_folder, level=5)
    study = study[:600]
    half = np.arange(len(study)) % 2 == 0
    pipe = make_pipeline(MorganFingerprinter(), CCA(20, ridge=1.0))
    pipe.fit(study.smiles[half], study.profiles()[half])
    X_test, y_test = study.smiles[~half], study.profiles()[~half]
    ranks = retrieval_ranks(pipe, X_test, y_test)
    with pytest.raises(ValueError, match="in the same order"):
        retrieval_ranks(pipe, X_test, y_test.iloc[:, ::-1])
    symbols = study.profiles(names="symbol")[~half]
    today = match_genes(y_test.columns, ["TP53"])["symbol"].to_numpy()
    assert (today != symbols.columns).sum() == 47
    for y in (y_test, symbols, y_test.set_axis(today, axis=1)):
        aligned = align_profiles(y.iloc[:, ::-1], pipe)
        np.testing.assert_array_equal(retrieval_ranks(pipe, X_test, aligned), ranks)
