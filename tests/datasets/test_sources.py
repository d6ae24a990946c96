"""Several sources in one study: genes, drugs, account, agreement and weights."""

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import (
    Study,
    join_studies,
    make_perturbation_study,
    replicate_agreement,
    source_weights,
)
from sklearn_molge.exceptions import DataWarning, InvalidSmilesError
from sklearn_molge.molecules import drug_ids


def small(smiles, genes, *, level=5, key="gene_id", **columns):
    n = len(smiles)
    values = np.arange(n * len(genes), dtype=np.float32).reshape(n, -1)
    obs = pd.DataFrame({"cell_line": ["A375"] * n, **columns})
    return Study(
        smiles, ge=values, obs=obs, genes=pd.DataFrame({key: genes}), level=level
    )


OURS = small(["CCO", "CCN"], [1, 2, 3])
THEIRS = small(["OCC", "CCS"], [3, 9, 1], level=None, drug=["x", "y"])


@pytest.mark.parametrize(
    ("genes", "expected"),
    [
        ("first", [1, 2, 3]),
        ("union", [1, 2, 3, 9]),
        pytest.param(
            "common",
            [1, 3],
            marks=pytest.mark.filterwarnings("ignore:2 of 4 genes:UserWarning"),
        ),
    ],
)
def test_genes_that_a_source_lacks_are_nan(genes, expected):
    both = join_studies({"a": OURS, "b": THEIRS}, genes=genes)
    assert both.genes["gene_id"].tolist() == expected
    known = {  # gene by gene, by hand
        "a": {1: [0, 3], 2: [1, 4], 3: [2, 5], 9: [np.nan] * 2},
        "b": {1: [2, 5], 2: [np.nan] * 2, 3: [0, 3], 9: [1, 4]},
    }
    for column, gene in enumerate(expected):
        np.testing.assert_equal(both.ge[:, column], known["a"][gene] + known["b"][gene])


def test_source_drugs_level_and_account():
    both = join_studies([OURS, THEIRS], source=["a", "b"])
    assert both.obs["source"].tolist() == ["a", "a", "b", "b"]
    assert both.obs.index.tolist() == ["a:0", "a:1", "b:0", "b:1"]
    assert both.level == 5
    assert both.obs["drug"].tolist() == drug_ids(both.smiles).tolist()
    assert both.groups[0, 0] == both.groups[2, 0]  # ethanol, under two names
    account = both.dropped.set_index("step")["detail"]
    assert account["a: joined"] == ""
    assert account["b: joined"].startswith(
        "1 of 3 genes are NaN; 1 gene left out; 2 drugs got another name: x is "
    )
    again = join_studies([both, join_studies({"c": OURS})])
    assert again.obs["source"].tolist() == ["a", "a", "b", "b", "c", "c"]


def test_the_sources_are_not_changed():
    before = OURS.ge.copy(), list(OURS.obs), THEIRS.obs["drug"].tolist()
    both = join_studies({"a": OURS, "b": THEIRS})
    both.ge[:] = 0
    assert np.array_equal(OURS.ge, before[0])
    assert (list(OURS.obs), THEIRS.obs["drug"].tolist()) == before[1:]


def test_controls_keep_their_source_and_plates():
    wells = make_perturbation_study(3, n_genes=5, level=3, random_state=0)
    other = make_perturbation_study(3, n_genes=5, level=3, random_state=1)
    both = join_studies({"a": wells, "b": other})
    assert both.control_obs["source"].value_counts().to_dict() == {
        "a": len(wells.control_obs),
        "b": len(other.control_obs),
    }


def test_genes_by_symbol_where_one_study_has_no_ids():
    named = Study(
        ["CCO"],
        ge=[[1.0, 2.0]],
        obs=pd.DataFrame({"cell_line": ["A"]}),
        genes=pd.DataFrame({"gene_id": [7, 8], "symbol": ["G", "H"]}),
    )
    other = small(["CCN"], ["H", "G"], key="symbol", level=None)
    both = join_studies({"a": named, "b": other})
    assert both.ge.tolist() == [[1, 2], [1, 0]]
    assert both.genes["gene_id"].tolist() == [7, 8]


@pytest.mark.parametrize("genes", ["first", "union"])
def test_ids_of_genes_may_be_text(genes):
    texts = THEIRS[:]
    texts.genes = texts.genes.assign(gene_id=texts.genes["gene_id"].astype(str))
    both = join_studies({"a": OURS, "b": texts}, genes=genes)
    expected = join_studies({"a": OURS, "b": THEIRS}, genes=genes)
    np.testing.assert_array_equal(both.ge, expected.ge)


def test_sources_that_studies_name_themselves():
    numbered = OURS[:]
    numbered.obs = OURS.obs.assign(source=[1, 2])
    again = join_studies([numbered, join_studies({"c": THEIRS})])
    assert again.obs["source"].tolist() == ["1", "2", "c", "c"]
    numbered.obs = OURS.obs.assign(source=["a", None])
    with pytest.raises(ValueError, match="Names are missing in the studies at 0"):
        join_studies([numbered])


def test_missing_genes_survive_files_and_parts(tmp_path):
    both = join_studies({"a": OURS, "b": THEIRS})
    both.save(tmp_path / "both.h5ad")
    again = Study.load(tmp_path / "both.h5ad")
    np.testing.assert_array_equal(again.ge, both.ge)
    pd.testing.assert_frame_equal(again.obs, both.obs)
    assert np.isnan(both[2:].ge[:, 1]).all()
    back = Study.from_anndata(both.to_anndata(), missing="nan")
    np.testing.assert_array_equal(back.ge, both.ge)


@pytest.mark.parametrize(
    ("studies", "options", "match"),
    [
        ([], {}, "one study or more"),
        ([OURS, THEIRS], {}, "source must name the studies.* at 0, 1 has"),
        ([OURS, THEIRS], {"source": ["a", "a"]}, "a text of its own"),
        ([OURS, THEIRS], {"source": ["a"]}, "a text of its own"),
        ({"a": OURS}, {"source": ["b"]}, "source goes with a list"),
        ({"a": OURS, "b": small(["C"], [1], level=3)}, {}, "of one level.* 5, 3"),
        ({"a": OURS[:0]}, {}, "without any"),
        ({"a": OURS, "b": small(["C"], [8])}, {"genes": "common"}, "No gene is in"),
        ({"a": OURS, "b": small(["C"], [8])}, {}, "Study 1 has none of these, but 8"),
        ({"a": OURS, "b": small(["C"], ["G"], key="symbol")}, {}, "matches genes by"),
        ({"a": OURS}, {"genes": "all"}, "genes"),
    ],
)
def test_refused(studies, options, match):
    with pytest.raises(ValueError, match=match):
        join_studies(studies, **options)


def test_other_types_and_bad_molecules_are_refused():
    with pytest.raises(TypeError, match="must hold Study"):
        join_studies({"a": 5})
    bad = small(["no molecule"], [1], drug=["x"])
    with pytest.raises(InvalidSmilesError, match="no molecule"):
        join_studies({"a": OURS, "b": bad})


# ------------------------------------------------------------------------- weights


def slow_agreement(study, reference):
    """Leave each profile out in turn, with pandas."""
    sources, found = study.obs["source"].to_numpy(), []
    for i in range(len(study)):
        others = (sources == reference) & (study.groups[:, 0] == study.groups[i, 0])
        others[i] = False
        mean = pd.DataFrame(study.ge[others].astype(float)).mean()
        both = pd.DataFrame({"a": study.ge[i].astype(float), "b": mean}).dropna()
        found.append(both.corr().iloc[0, 1] if len(both) > 2 else np.nan)
    return found


def test_agreement_by_a_slow_loop():
    a = make_perturbation_study(6, n_cell_lines=2, n_genes=12, level=5, random_state=0)
    b = make_perturbation_study(9, n_cell_lines=1, n_genes=9, level=5, random_state=0)
    both = join_studies({"a": a, "b": b})
    both.ge[3, :4] = np.nan
    both.ge[5, 2:] = np.nan  # two genes are too few
    for reference in "ab":
        made = replicate_agreement(both, reference=reference)
        np.testing.assert_allclose(made, slow_agreement(both, reference), atol=1e-6)
    assert made.index.equals(both.obs.index)
    assert np.isnan(made.iloc[5])
    # the order of rows does not matter
    order = np.random.default_rng(0).permutation(len(both))
    again = replicate_agreement(both[order], reference="b")
    np.testing.assert_allclose(again, made.to_numpy()[order])


def test_weights_by_agreement():
    a = make_perturbation_study(20, n_genes=50, level=5, random_state=0)
    noisy, useless, alone = a[:], a[:], small(["[Xe]"], a.genes["gene_id"].tolist())
    rng = np.random.default_rng(0)
    noisy.ge = a.ge + rng.normal(scale=3 * a.ge.std(), size=a.ge.shape)
    useless.ge = rng.normal(size=a.ge.shape)
    both = join_studies({"a": a, "n": noisy, "u": useless, "alone": alone})
    with pytest.warns(DataWarning, match="no drug with 'a'.* default=0.5: 'alone'"):
        found = source_weights(both, default=0.5)
    weights = dict(zip(both.obs["source"], found, strict=True))
    assert weights["a"] == 1 > weights["n"] > weights["u"] >= 0
    assert weights["alone"] == 0.5
    with pytest.raises(ValueError, match="profiles of one drug"):
        source_weights(both, reference="alone")


def test_weights_by_name():
    both = join_studies({"a": OURS, "b": THEIRS})
    assert source_weights(both, {"b": 0}).tolist() == [1, 1, 0, 0]
    assert source_weights(both, {"a": 2}, default=0.1).tolist() == [2, 2, 0.1, 0.1]
    for wrong in ({"c": 1}, {"a": -1}, {"a": np.nan}, {"a": np.inf}, {"a": "1"}):
        with pytest.raises(ValueError, match="weights must name sources"):
            source_weights(both, wrong)
    with pytest.raises(ValueError, match="column 'source'"):
        source_weights(OURS, {"a": 1})
    with pytest.raises(ValueError, match="reference must be a source"):
        replicate_agreement(both, reference="c")
