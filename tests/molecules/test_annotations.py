import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.exceptions import DataWarning
from sklearn_molge.molecules import annotation_matrix, drug_ids

SMILES = ["CCO", "c1ccccc1O", "CC(=O)O", "CC(=O)[O-].[Na+]", "CCN"]
TABLE = pd.DataFrame(
    {
        "canonical_smiles": ["OCC", "Oc1ccccc1", "CC(O)=O", "CC(O)=O", "CCCC"],
        "moa": ["a|b", "b", "c", None, "d"],
        "target": [None, "T1", "", "T2", "T3"],
    }
)


def test_by_hand():
    found = annotation_matrix(SMILES, TABLE)
    assert found.names.tolist() == [
        "moa: a", "moa: b", "moa: c", "target: T1", "target: T2",
    ]  # fmt: skip
    expected = [
        [1, 1, 0, 0, 0],
        [0, 1, 0, 1, 0],
        [0, 0, 1, 0, 1],
        [0, 0, 1, 0, 1],  # the salt of the one above
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(found.matrix.toarray(), expected)
    counts = (found.n_annotated, found.n_unknown, found.n_excluded)
    assert counts == (3, 1, 0)
    frequent = annotation_matrix(SMILES, TABLE, min_count=2)
    assert frequent.names.tolist() == ["moa: b"]


def test_labels_of_excluded_molecules_are_in_no_spelling_used():
    plain = annotation_matrix(SMILES, TABLE)
    found = annotation_matrix(SMILES, TABLE, exclude=["[K+].CC([O-])=O", "CCN", "C"])
    assert found.n_excluded == 1
    assert (found.n_annotated, found.n_unknown) == (2, 1)
    assert found.names.tolist() == ["moa: a", "moa: b", "target: T1"]
    assert not found.matrix.toarray()[2:].any()
    np.testing.assert_array_equal(
        found.matrix.toarray()[:2], plain.matrix.toarray()[:2][:, [0, 1, 3]]
    )
    other = TABLE.assign(moa=["a|b", "b", "z", "y", "d"], target="")
    other.loc[1, "target"] = "T1"
    changed = annotation_matrix(SMILES, other, exclude=["CC(O)=O"])
    np.testing.assert_array_equal(changed.matrix.toarray(), found.matrix.toarray())


def test_columns_separators_and_what_cannot_be_read():
    table = TABLE.rename(columns={"canonical_smiles": "structure"})
    table["moa"] = ["a; b", "b", "c", None, "d"]
    table.loc[1, "structure"] = "restricted"
    given = {"columns": ["moa"], "smiles_column": "structure"}
    with pytest.warns(DataWarning, match=r"1 row of 4 with .* index 1: 'restricted'"):
        found = annotation_matrix(SMILES, table, sep=";", **given)
    assert found.n_unreadable == 1
    assert found.names.tolist() == ["moa: a", "moa: b", "moa: c"]
    nothing = annotation_matrix(["CCCl"], TABLE)
    assert nothing.matrix.shape == (1, 0)
    with pytest.raises(ValueError, match="one of SMILES, 'smiles' or 'canonical_smil"):
        annotation_matrix(SMILES, table)
    with pytest.raises(ValueError, match="must have the columns"):
        annotation_matrix(SMILES, TABLE, columns=["moa", "gene"])
    with pytest.raises(TypeError, match="annotations must be a DataFrame"):
        annotation_matrix(SMILES, TABLE.to_numpy())


def test_order_of_the_table_does_not_matter():
    plain = annotation_matrix(SMILES, TABLE)
    moved = annotation_matrix(SMILES, TABLE.iloc[[4, 2, 0, 3, 1]])
    assert moved.names.tolist() == plain.names.tolist()
    np.testing.assert_array_equal(moved.matrix.toarray(), plain.matrix.toarray())


def test_real_table():
    folder = Path(os.environ.get("SKLEARN_MOLGE_DATA", "../shared/data"))
    path = folder / "lincs_level5_sample" / "compoundinfo.txt"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    table = pd.read_csv(path, sep="\t").dropna(subset="canonical_smiles")[:150]
    smiles = table["canonical_smiles"].to_numpy()
    found = annotation_matrix(smiles, table, exclude=smiles[:40])
    same = np.isin(drug_ids(smiles), drug_ids(smiles[:40]))
    assert not found.matrix.toarray()[same].any()
    has = table["moa"].notna() | table["target"].notna()
    assert found.matrix.toarray()[~same].any(axis=1).sum() >= has[~same].sum()
