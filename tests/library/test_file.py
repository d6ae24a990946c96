import bz2
import gzip
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem

from sklearn_molge.exceptions import InvalidSmilesError, LibraryWarning
from sklearn_molge.library import MoleculeFile
from sklearn_molge.molecules import check_smiles

SMILES = ["CCO", "c1ccccc1", "-666", "", "CC(=O)[O-].[Na+]"]
NAMES = ["ethanol", "benzene", "unknown", "none at all", "sodium acetate"]


def write(path, text):
    data = text.encode()
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix.lower(), open)
    with opener(path, "wb") as file:
        file.write(data)
    return path


def table(separator, header=("smiles", "name")):
    rows = [header, *zip(SMILES, NAMES, strict=True)]
    return "".join(separator.join(row) + "\n" for row in rows)


def write_sdf(path, records):
    """Records: SMILES or a broken block, with name and fields."""
    parts = []
    for smiles, name, fields in records:
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            block = f"{name}\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n{smiles}\n"
            block += "M  END\n"
        else:
            mol.SetProp("_Name", name)
            block = Chem.MolToMolBlock(mol)
        data = "".join(f">  <{k}>  (1)\n{v}\n\n" for k, v in fields.items())
        parts.append(f"{block}{data}$$$$\n")
    return write(path, "".join(parts))


def read(library, batch_size=3, start=0):
    batches = list(library.iter_batches(batch_size, start=start))
    smiles = [s for _, part, _ in batches for s in part]
    names = [n for _, _, part in batches for n in part]
    row = start
    for first_row, part, part_names in batches:
        assert first_row == row
        assert part.dtype == part_names.dtype == object
        assert len(part) == len(part_names)
        row += len(part)
    assert all(len(part) == batch_size for _, part, _ in batches[:-1])
    return smiles, names


@pytest.fixture
def parquet(tmp_path):
    pytest.importorskip("pyarrow")

    def make(frame, row_group_size=2, name="library.parquet"):
        path = tmp_path / name
        frame.to_parquet(path, row_group_size=row_group_size, index=False)
        return path

    return make


@pytest.mark.parametrize(
    ("ending", "separator", "expected"),
    [
        (".csv", ",", "csv"),
        (".csv.gz", ",", "csv"),
        (".tsv", "\t", "tsv"),
        (".tab.bz2", "\t", "tsv"),
        (".txt", "\t", "tsv"),
        (".txt.gz", ",", "csv"),
        (".smi", "\t", "tsv"),
        (".TSV.GZ", "\t", "tsv"),
    ],
)
def test_tables(tmp_path, ending, separator, expected):
    path = write(tmp_path / f"library{ending}", table(separator))
    library = MoleculeFile(str(path))
    assert library.format == expected
    assert library.n_rows == 5
    assert read(library) == (SMILES, NAMES)
    assert read(library, start=3) == (SMILES[3:], NAMES[3:])
    assert read(library, start=5) == ([], [])


def test_lines_of_smiles_with_header_comments_and_odd_names(tmp_path):
    path = write(
        tmp_path / "library.smi",
        "\ufeffsmiles zinc_id\n# made by hand\nCCO  ethyl alcohol \r\n\nCCN\n"
        "CC[C@H](N)O |&1:2| mixed isomers\n C#N leading\nCC |x\n",
    )
    library = MoleculeFile(path)
    assert library.format == "smi"
    assert library.n_rows == 5
    smiles, names = read(library)
    assert smiles == ["CCO", "CCN", "CC[C@H](N)O |&1:2|", "C#N", "CC"]
    assert names == ["ethyl alcohol", "", "mixed isomers", "leading", "|x"]
    check_smiles(smiles)
    assert read(library, start=3) == (smiles[3:], names[3:])


def test_a_first_line_that_is_a_molecule_is_a_row(tmp_path):
    library = MoleculeFile(write(tmp_path / "x.smiles.gz", "CCO a\nCCN b\n"))
    assert read(library) == (["CCO", "CCN"], ["a", "b"])


def test_fields_of_csv_may_hold_commas_quotes_and_line_ends(tmp_path):
    rows = [("CCO", 'a "b", c'), ("CCN", "two\nlines"), ("CCC", "é")]
    frame = pd.DataFrame(rows, columns=["Structure", "Title"])
    path = tmp_path / "library.csv"
    frame.to_csv(path, index=False)
    assert read(MoleculeFile(path)) == tuple(map(list, zip(*rows, strict=True)))
    assert read(MoleculeFile(path), start=2) == (["CCC"], ["é"])


def test_a_quote_in_a_tsv_is_a_character(tmp_path):
    text = 'smiles\tname\nCCO\t"5\'-x\nCCN\ty"\n'
    assert read(MoleculeFile(write(tmp_path / "x.tsv", text))) == (
        ["CCO", "CCN"],
        ["\"5'-x", 'y"'],
    )


def test_short_rows_and_empty_lines(tmp_path):
    path = write(tmp_path / "x.csv", "name,smiles\na,CCO\nb\n\n,CCN,more\n")
    assert read(MoleculeFile(path)) == (["CCO", "", "CCN"], ["a", "b", ""])


def test_what_is_not_utf_8_is_guessed_aloud(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"smiles,name\nCCO,caf\xe9\nCC\x00,nul\n")
    with pytest.warns(LibraryWarning, match="not UTF-8, and read as Windows-1252"):
        library = MoleculeFile(path)
    assert read(library) == (["CCO", "CC\x00"], ["café", "nul"])


def test_late_bytes_that_are_no_text_stay_visible(tmp_path):
    path = tmp_path / "x.csv"
    rows = b"CCO,ethanol\n" * 30_000
    path.write_bytes(b"smiles,name\n" + rows + b"CCO,caf\xe9\n")
    assert read(MoleculeFile(path), start=30_000) == (["CCO"], ["caf\\xe9"])


def test_columns_are_found_by_the_most_telling_name(tmp_path):
    text = "id,pert_id,Canonical_SMILES,inchi,SMILES\n1,B1,CCO,I,OCC\n"
    path = write(tmp_path / "x.csv", text)
    assert read(MoleculeFile(path)) == (["OCC"], ["B1"])
    library = MoleculeFile(path, smiles_column="Canonical_SMILES", name_column="id")
    assert read(library) == (["CCO"], ["1"])


def test_without_a_column_of_names_names_are_empty(tmp_path):
    path = write(tmp_path / "x.csv", "smiles,weight\nCCO,46\n")
    with pytest.warns(LibraryWarning, match=r"names are empty.*'weight'\]"):
        library = MoleculeFile(path)
    assert read(library) == (["CCO"], [""])
    assert read(MoleculeFile(path, name_column="weight")) == (["CCO"], ["46"])


def test_columns_by_number_mean_no_header(tmp_path):
    path = write(tmp_path / "CID-SMILES.gz", "1\tCCO\n2\tCCN\n")
    library = MoleculeFile(path, format="tsv", smiles_column=np.int64(1))
    assert read(library) == (["CCO", "CCN"], ["", ""])
    library = MoleculeFile(path, format="tsv", smiles_column=1, name_column=0)
    assert read(library, start=1) == (["CCN"], ["2"])
    assert MoleculeFile(write(tmp_path / "x.txt", "1\tC\n"), smiles_column=1).n_rows


@pytest.mark.parametrize("row_group_size", [1, 2, 3, 100])
def test_parquet(parquet, row_group_size):
    frame = pd.DataFrame({"zinc_id": range(7), "smiles": ["C" * i for i in range(7)]})
    frame.loc[3, "smiles"] = None
    library = MoleculeFile(parquet(frame, row_group_size))
    expected = [*("C" * i for i in range(3)), "", *("C" * i for i in range(4, 7))]
    assert library.format == "parquet"
    assert library.n_rows == 7
    for start in range(8):
        assert read(library, start=start) == (
            expected[start:],
            list(map(str, range(start, 7))),
        )


def test_parquet_with_one_column(parquet):
    library = MoleculeFile(parquet(pd.DataFrame({"smiles": ["C", "CC"]})))
    assert read(library) == (["C", "CC"], ["", ""])
    library = MoleculeFile(
        parquet(pd.DataFrame({"smiles": ["C"]})), name_column="smiles"
    )
    assert read(library) == (["C"], ["C"])


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = write(tmp_path / "x.parquet", "x")
    with pytest.raises(ImportError, match=r"sklearn-molge\[parquet\]"):
        MoleculeFile(path)


@pytest.mark.parametrize("ending", [".sdf", ".sdf.gz"])
def test_sdf(tmp_path, ending):
    records = [
        ("CCO", "ethanol", {"ID": "7", "logP": "-0.1"}),
        ("broken", "odd one", {}),
        ("c1ccccc1", "", {"chembl_id": "CHEMBL277500"}),
        ("C[C@H](N)C(=O)O", "alanine", {"ID": "9"}),
    ]
    library = MoleculeFile(write_sdf(tmp_path / f"x{ending}", records))
    assert library.format == "sdf"
    assert library.n_rows == 4
    smiles, names = read(library)
    assert names == ["ethanol", "odd one", "CHEMBL277500", "alanine"]
    assert smiles[1] == "unreadable record 'odd one'"
    with pytest.raises(InvalidSmilesError):
        check_smiles(smiles[1:2])
    for i in (0, 2, 3):
        assert smiles[i] == Chem.CanonSmiles(records[i][0])
    assert read(library, start=2) == (smiles[2:], names[2:])
    assert read(MoleculeFile(library.path, name_column="ID"))[1] == ["7", "", "", "9"]


def test_sdf_agrees_with_the_supplier_of_rdkit(tmp_path):
    texts = ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)[O-].[Na+]", "F/C=C/F", "[2H]C", "N"]
    path = write_sdf(tmp_path / "x.sdf", [(text, text, {}) for text in texts])
    expected = [Chem.MolToSmiles(mol) for mol in Chem.SDMolSupplier(str(path))]
    assert read(MoleculeFile(path)) == (expected, texts)


def test_sdf_fields(tmp_path):
    records = [("CCO", "a", {"SMILES": "OCC", "n": "1"}), ("CC", "b", {})]
    path = write_sdf(tmp_path / "x.sdf", records)
    assert read(MoleculeFile(path, smiles_column="SMILES")) == (["OCC", ""], ["a", "b"])
    with pytest.raises(ValueError, match=r"name_column .*'z'.*'_Name', 'SMILES', 'n'"):
        MoleculeFile(path, name_column="z")


def test_sdf_may_lack_its_last_end_and_its_blocks(tmp_path):
    path = write_sdf(tmp_path / "x.sdf", [("CCO", "a", {}), ("CC", "b", {})])
    path.write_text(path.read_text().removesuffix("$$$$\n"))
    assert read(MoleculeFile(path)) == (["CCO", "CC"], ["a", "b"])
    path.write_text("$$$$\nx\n\n\n 99999 junk\n$$$$\n")
    smiles, names = read(MoleculeFile(path))
    assert names == ["", "x"]
    with pytest.raises(InvalidSmilesError, match="2 entries"):
        check_smiles(smiles)
    with pytest.raises(ValueError, match="no record"):
        MoleculeFile(write(tmp_path / "empty.sdf", ""))


def test_errors_name_what_is_there(tmp_path):
    path = write(tmp_path / "x.csv", "compound,weight\na,1\n")
    with pytest.raises(ValueError, match=r"smiles_column.*\['compound', 'weight'\]"):
        MoleculeFile(path)
    with pytest.raises(ValueError, match=r"'mol' of smiles_column.*'weight'"):
        MoleculeFile(path, smiles_column="mol")
    with pytest.raises(ValueError, match="'id' of name_column"):
        MoleculeFile(path, smiles_column="compound", name_column="id")
    with pytest.raises(ValueError, match="5 of smiles_column"):
        MoleculeFile(path, smiles_column=5)
    with pytest.raises(ValueError, match=r"Got \[\]"):
        MoleculeFile(write(tmp_path / "empty.csv", ""))
    with pytest.raises(ValueError, match="both be numbers"):
        MoleculeFile(path, smiles_column="compound", name_column=1)
    with pytest.raises(FileNotFoundError):
        MoleculeFile(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match=r"format must be given.*'\.xyz'"):
        MoleculeFile(write(tmp_path / "x.xyz", "C"))
    with pytest.raises(
        ValueError, match=r"format must be one of \['smi', 'csv'.*Got 'xlsx'"
    ):
        MoleculeFile(path, format="xlsx")
    with pytest.raises(ValueError, match="smiles_column must be None"):
        MoleculeFile(path, format="smi", smiles_column="compound")
    with pytest.raises(ValueError, match="must be a text for format='sdf'"):
        MoleculeFile(path, format="sdf", smiles_column=0)


def test_damaged_files_say_where(tmp_path, parquet):
    rows = "".join(f"{'C' * (i % 7 + 1)},{i * 7919}\n" for i in range(5000))
    whole = gzip.compress(f"smiles,id\n{rows}".encode())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    library = MoleculeFile(path)
    with pytest.raises(ValueError, match=r"cut.csv.gz is damaged behind row \d+,?\d*:"):
        list(library.iter_batches(10))
    path.write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(ValueError, match=r"cut.csv.gz is damaged: BadGzipFile"):
        MoleculeFile(path)
    path = parquet(pd.DataFrame({"smiles": ["C"] * 100}))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"library\.parquet is damaged: ArrowInvalid"):
        MoleculeFile(path)


def test_fingerprint_goes_by_content_and_options(tmp_path):
    one = MoleculeFile(write(tmp_path / "a.csv", "smiles,id,name\nCCO,1,x\n"))
    same = MoleculeFile(write(tmp_path / "b.csv", "smiles,id,name\nCCO,1,x\n"))
    others = [
        MoleculeFile(write(tmp_path / "c.csv", "smiles,id,name\nCCN,1,x\n")),
        MoleculeFile(tmp_path / "a.csv", name_column="id"),
        MoleculeFile(tmp_path / "a.csv", format="smi"),
    ]
    assert one.fingerprint() == same.fingerprint()
    assert len({library.fingerprint() for library in [one, *others]}) == 4


def test_only_a_small_file_is_counted(tmp_path):
    assert MoleculeFile(write(tmp_path / "a.smi", "CCO\n" * 9)).n_rows == 9
    large = write(tmp_path / "b.smi", f"{'C' * 1023}\n" * (16 * 1024 + 1))
    assert MoleculeFile(large).n_rows is None


def test_pickle_and_repr(tmp_path):
    library = MoleculeFile(write(tmp_path / "x.csv", table(",")))
    assert read(pickle.loads(pickle.dumps(library))) == (SMILES, NAMES)
    assert repr(library) == f"MoleculeFile({str(library.path)!r}, format='csv')"


def test_the_compounds_of_lincs(shared_data):
    library = MoleculeFile(shared_data / "library" / "compoundinfo.txt.gz")
    expected = pd.read_csv(library.path, sep="\t", keep_default_na=False, quoting=3)
    assert library.format == "tsv"
    assert library.n_rows == 34_419 == len(expected)
    smiles, names = read(library, batch_size=4096)
    assert smiles == expected["canonical_smiles"].tolist()
    assert names == expected["cmap_name"].tolist()
    assert read(library, start=30_000)[0] == smiles[30_000:]


def test_further_columns_travel(tmp_path, parquet):
    frame = pd.DataFrame(
        {
            "catalog_id": ["S1", "S2", "S3"],
            "smiles": ["CCO", "", "CCN"],
            "price": [12.5, 3.0, np.nan],
            "name": ["a", None, "c"],
            "stock": [True, False, True],
        }
    )
    frame.to_csv(tmp_path / "x.csv", index=False)
    library = MoleculeFile(tmp_path / "x.csv", columns=["price", "catalog_id"])
    first, second = library.iter_batches(2)
    assert list(first.columns) == ["price", "catalog_id"]
    assert first.columns["price"].tolist() == ["12.5", "3.0"]
    assert second.columns["price"].tolist() == [""]
    assert second.columns["catalog_id"].tolist() == ["S3"]
    assert (second.first_row, len(second)) == (2, 1)
    library = MoleculeFile(parquet(frame), columns="all")
    (batch,) = library.iter_batches(9)
    assert {k: v.tolist() for k, v in batch.columns.items()} == {
        "catalog_id": ["S1", "S2", "S3"],
        "price": [12.5, 3.0, None],
        "stock": [True, False, True],
    }
    assert batch.names.tolist() == ["a", "", "c"]
    assert MoleculeFile(tmp_path / "x.csv").fingerprint() != library.fingerprint()
    with pytest.raises(ValueError, match=r"\['cost'\] of columns.*'price'"):
        MoleculeFile(tmp_path / "x.csv", columns=["cost"])
