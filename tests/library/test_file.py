import bz2
import gzip
import lzma
import os
import pickle
import random
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import (
    CorruptFileError,
    InvalidSmilesError,
    LibraryWarning,
)
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter, check_smiles

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
    with pytest.warns(LibraryWarning, match="line 5 has 3 fields"):
        found = read(MoleculeFile(path))
    assert found == (["CCO", "", "CCN"], ["a", "b", ""])


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
    with pytest.raises(ValueError, match=r"Got an empty file"):
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
    with pytest.raises(
        ValueError, match=r"cut.csv.gz cannot be read: behind row \d+,?\d*:"
    ):
        list(library.iter_batches(10))
    path.write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(ValueError, match=r"cut.csv.gz cannot be read: BadGzipFile"):
        MoleculeFile(path)
    path = parquet(pd.DataFrame({"smiles": ["C"] * 100}))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(
        ValueError, match=r"library.parquet cannot be read: ArrowInvalid"
    ):
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


# What a file is, is told by what is in it


LINES = "CCO ethanol\nCCN amine\nc1ccccc1 benzene\n"
TABLE = "smiles,name\nCCO,ethanol\nCCN,amine\nc1ccccc1,benzene\n"
EXPECTED = (["CCO", "CCN", "c1ccccc1"], ["ethanol", "amine", "benzene"])


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("text", [LINES, TABLE], ids=["lines", "table"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_encodings_and_line_ends(tmp_path, text, ending, encoding):
    path = put(tmp_path / "x.txt", text.replace("\n", ending).encode(encoding))
    assert read(MoleculeFile(path)) == EXPECTED


@pytest.mark.parametrize("name", ["x.smi", "x.csv.gz", "x.txt.zst"])
@pytest.mark.parametrize(
    "packing", ["none", "gzip", "bz2", "xz", "lzma", "zip", "zstd"]
)
def test_packing_goes_by_the_bytes(tmp_path, name, packing):
    data = (LINES if name == "x.smi" else TABLE).encode()
    path = tmp_path / name
    if packing == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__MACOSX/x", "")
            archive.writestr("x.csv", data)
    elif packing == "zstd":
        arrow = pytest.importorskip("pyarrow")
        with arrow.output_stream(str(path), compression="zstd") as file:
            file.write(data)
    else:
        pack = {
            "none": bytes,
            "gzip": gzip.compress,
            "bz2": bz2.compress,
            "xz": lzma.compress,
            "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
        }[packing]
        put(path, pack(data))
    library = MoleculeFile(path)
    assert read(library) == EXPECTED
    assert library.describe().compression == {
        "none": None, "lzma": "xz",
    }.get(packing, packing)  # fmt: skip


def test_a_zip_is_named_by_its_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("folder/library.csv", TABLE)
    assert MoleculeFile(tmp_path / "x.zip").format == "csv"
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        archive.writestr("other.csv", TABLE)
    with pytest.raises(
        ValueError, match=r"single file.* of 2: \['folder/library.csv'.*by member"
    ):
        MoleculeFile(tmp_path / "x.zip")


def test_members_of_a_zip(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", "hello")
        archive.writestr("part/a.csv", TABLE)
        archive.writestr("../evil.smi", "CCO ethanol\n")
        archive.writestr("/abs.smi", "CCN amine\n")
    plain = read(MoleculeFile(put(tmp_path / "a.csv", TABLE)))
    file = MoleculeFile(path, member="part/a.csv")
    assert read(file) == plain
    assert (file.format, file.describe().compression) == ("csv", "zip")
    assert file.n_rows == len(plain[0])
    assert read(pickle.loads(pickle.dumps(file))) == plain
    assert read(MoleculeFile(path / "part" / "a.csv")) == plain
    # Their names are no paths.
    evil = MoleculeFile(path, member="../evil.smi")
    assert read(evil) == (["CCO"], ["ethanol"])
    assert evil.fingerprint() != file.fingerprint()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "x.zip"]
    for member in ("b.csv", "/abs.smi", "part", "../../x.zip"):
        with pytest.raises(ValueError, match=r"member must be a file of the archive"):
            MoleculeFile(path, member=member)
    with pytest.raises(ValueError, match=r"a\.csv is no zip archive"):
        MoleculeFile(tmp_path / "a.csv", member="a.csv")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        MoleculeFile(tmp_path / "no.zip", member="a.csv")


def test_hostile_members(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.smi", "CCO ethanol\n" * 9)
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02")
    encrypted = bytearray(content)
    encrypted[6] |= 1
    encrypted[at + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(ValueError, match=r"'a\.smi' is encrypted"):
        MoleculeFile(path)
    bomb = bytearray(content)
    bomb[at + 24 : at + 28] = (2**31).to_bytes(4, "little")
    path.write_bytes(bomb)
    with pytest.raises(ValueError, match=r"would unpack to 2,147,483,648 bytes, of"):
        MoleculeFile(path)
    damaged = bytearray(content)
    damaged[at - 6] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(CorruptFileError, match=r"x\.zip cannot be read"):
        read(MoleculeFile(path))


def test_zstd_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    path = put(tmp_path / "x.csv.zst", b"\x28\xb5\x2f\xfd123")
    with pytest.raises(ImportError, match=r"packed by zstd,.*sklearn-molge\[parquet\]"):
        MoleculeFile(path)


FOREIGN = {
    "a page of HTML": "\n<!DOCTYPE html>\n<html>",
    "pointer of Git LFS": "version https://git-lfs.github.com/spec/v1\noid sha256:0",
    "a MOL2 file": "# made by x\n@<TRIPOS>MOLECULE\nbenzene\n",
    "a ChemDraw file": '<?xml version="1.0"?>\n<!DOCTYPE CDXML SYSTEM "x">\n<CDXML>',
    "XML": '<?xml version="1.0"?><molecule/>',
    "a PDF": "%PDF-1.4",
    "JSON": '[{"smiles": "CCO"}]',
    "a file of reactions": "$RXN V3000\n",
    "a PDB file": "HEADER    HYDROLASE\n",
    "an Excel workbook": b"\xd0\xcf\x11\xe0\xa1\xb1",
    "an HDF5 file": b"\x89HDF\r\n",
    "a Feather file": b"ARROW1\0\0",
    "packed twice": gzip.compress(gzip.compress(LINES.encode(), mtime=0), mtime=0),
    "not a text": bytes(range(16)) * 9,
    "a tar archive": b"library.smi".ljust(257, b"\0") + b"ustar\x0000",
}


@pytest.mark.parametrize("ending", [".smi", ".csv", ".sdf", ".txt"])
@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_library_is_called_by_its_name(tmp_path, what, ending):
    path = put(tmp_path / f"x{ending}", FOREIGN[what])
    with pytest.raises(ValueError, match=what):
        MoleculeFile(path)


def test_workbooks_folders_and_addresses(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.csv", "w") as archive:
        archive.writestr("[Content_Types].xml", "")
        archive.writestr("xl/workbook.xml", "")
    with pytest.raises(ValueError, match=r"Excel workbook.*DataFrame"):
        MoleculeFile(tmp_path / "x.csv")
    with pytest.raises(IsADirectoryError, match=r"Got the folder .*'x\.csv'"):
        MoleculeFile(tmp_path)
    with pytest.raises(ValueError, match=r"file of this machine.*https://a\.b/c\.smi"):
        MoleculeFile("https://a.b/c.smi")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", [".txt", ".smi", ".csv", ".tsv"])
def test_separators(tmp_path, separator, ending):
    path = put(tmp_path / f"x{ending}", TABLE.replace(",", separator))
    library = MoleculeFile(path, columns="all")
    assert read(library) == EXPECTED
    assert library.describe().separator == separator
    if ending in (".csv", ".tsv"):
        return
    for swapped in (False, True):
        pairs = zip(*(reversed(EXPECTED) if swapped else EXPECTED), strict=True)
        lines = "".join(f"{separator.join(pair)}\n" for pair in pairs)
        assert read(MoleculeFile(put(path, lines))) == EXPECTED


def test_lines_with_the_name_first(tmp_path):
    for separator in ("\t", " "):
        lines = [f"{2244 + i}{separator}{'C' * (i + 1)}\n" for i in range(9)]
        path = put(tmp_path / "x.smi", "".join(lines))
        expected = ["C" * (i + 1) for i in range(9)], [str(2244 + i) for i in range(9)]
        assert read(MoleculeFile(path)) == expected
        assert read(MoleculeFile(path), start=8) == (["C" * 9], ["2252"])
    path = put(tmp_path / "x.smi", "zinc_id smiles\nZ1 CCO\nZ2 broken\nZ3 CCN\n")
    assert read(MoleculeFile(path)) == (["CCO", "broken", "CCN"], ["Z1", "Z2", "Z3"])


def test_chembl(tmp_path):
    rows = '"ChEMBL ID";"Name";"Smiles"\n"CHEMBL1";"a; ""b""";"CCO"\n"C2";"";"CCN"\n'
    path = put(tmp_path / "x.csv", rows)
    assert read(MoleculeFile(path)) == (["CCO", "CCN"], ['a; "b"', ""])
    path = put(tmp_path / "x.tsv", rows.replace(";", "\t"))
    assert read(MoleculeFile(path)) == (["CCO", "CCN"], ['a\t "b"', ""])
    path = put(tmp_path / "y.tsv", 'Name\tSmiles\n"5\'-x"\t"CCO"\n"y"\t"CCN"\n')
    assert read(MoleculeFile(path)) == (["CCO", "CCN"], ["5'-x", "y"])


# Quotes that are left open


@pytest.mark.parametrize("n_before", [0, 498, 499, 500, 2000])
@pytest.mark.parametrize("n_after", [0, 1, 20_000])
def test_an_open_quote_swallows_nothing(tmp_path, n_before, n_after):
    before, after = ["C,x"] * n_before, ["N,y"] * n_after
    lines = ["smiles,name", *before, 'CCO,"5 mg', *after]
    path = put(tmp_path / "x.csv", "\n".join(lines))
    library = MoleculeFile(path)
    expected = (
        ["C"] * n_before + ["CCO"] + ["N"] * n_after,
        ["x"] * n_before + ["5 mg"] + ["y"] * n_after,
    )
    with pytest.warns(LibraryWarning, match=r"read on its own: 'CCO,\"5 mg'"):
        assert read(library) == expected


def test_an_open_quote_before_good_ones(tmp_path):
    rows = ['"CCO,1', 'CCN,"a, b"', '"CCC",c', 'CCCC,"two', 'lines"', 'C,"x', 'N,"y']
    path = put(tmp_path / "x.csv", "\n".join(["smiles,name", *rows]))
    with pytest.warns(LibraryWarning):
        found = read(MoleculeFile(path))
    assert found == (
        ["CCO,1", "CCN", "CCC", "CCCC", "C", "N"],
        ["", "a, b", "c", "two\nlines", "x", "y"],
    )


def test_lines_of_bad_rows_are_told(tmp_path):
    rows = ["smiles,name", 'CCO,"a', 'b"', "", "  ", "C1C,c", "-666,d", "CCN,e"]
    for n_before in (0, 600):
        text = "\n".join([rows[0], *["C,x"] * n_before, *rows[1:]])
        path = put(tmp_path / "x.csv", text)
        bad = MoleculeFile(path).describe().bad_rows
        assert bad.values.tolist() == [
            [n_before + 1, n_before + 6, "C1C", "not a valid SMILES"],
            [n_before + 2, n_before + 7, "-666", "missing"],
        ]
        frame = pd.read_csv(path)
        assert frame["smiles"].iloc[bad["row"]].tolist() == ["C1C", "-666"]


# Columns


@pytest.mark.parametrize(
    "column",
    ["isosmiles", "CanonicalSMILES", "Canonical SMILES", "SMILES (isomeric)", "Smile"],
)
@pytest.mark.parametrize("names", ["Product Name", "Catalog No.", "Catalogue_Number"])
def test_columns_are_known_in_any_spelling(tmp_path, column, names):
    path = put(tmp_path / "x.csv", f"n,{names},{column}\n1, ethanol ,CCO\n")
    assert read(MoleculeFile(path)) == (["CCO"], ["ethanol"])


def test_columns_are_chosen_by_what_is_in_them(tmp_path):
    text = "structure,title,id,SMILES\na.png,,7,CCO\nb.png,,8,CCN\n"
    path = put(tmp_path / "x.csv", text)
    assert read(MoleculeFile(path)) == (["CCO", "CCN"], ["7", "8"])
    path = put(tmp_path / "y.csv", text.replace("SMILES", "mol"))
    with pytest.raises(ValueError, match=r"'structure' holds no SMILES.*'mol' holds"):
        MoleculeFile(path)
    path = put(tmp_path / "z.csv", "mol,weight\nCCO,46\n")
    with pytest.raises(ValueError, match=r"smiles_column, 'mol' holds SMILES"):
        MoleculeFile(path)
    path = put(tmp_path / "w.csv", "ethanol,CCO\namine,CCN\n")
    with pytest.raises(ValueError, match=r"no header: .*smiles_column=1"):
        MoleculeFile(path)


def test_columns_of_one_name(tmp_path):
    path = put(tmp_path / "x.csv", "smiles,name,smiles\nCCO,a,CCO\n")
    assert read(MoleculeFile(path)) == (["CCO"], ["a"])
    path = put(tmp_path / "y.csv", "smiles,name,smiles\nCCO,a,CCN\n")
    with pytest.raises(ValueError, match=r"one of \['smiles', 'smiles\.1'\]"):
        MoleculeFile(path)
    assert read(MoleculeFile(path, smiles_column="smiles.1")) == (["CCN"], ["a"])


def test_parquet_of_bytes_and_of_ids_with_gaps(parquet):
    frame = pd.DataFrame({"smiles": [b"CCO", None], "cid": [2244.0, np.nan]})
    path = parquet(frame, name="library.csv")  # known by its content
    assert read(MoleculeFile(path)) == (["CCO", ""], ["2244", ""])


def test_columns_are_no_part_of_lines(tmp_path):
    path = put(tmp_path / "x.smi", LINES)
    assert next(MoleculeFile(path, columns="all").iter_batches(9)).columns == {}
    with pytest.raises(ValueError, match="columns must be None for lines of SMILES"):
        MoleculeFile(path, columns=["price"])


# SDF


def sdf(smiles, name="", fields=(), *, v3000=False):
    mol = Chem.MolFromSmiles(smiles)
    mol.SetProp("_Name", name)
    block = Chem.MolToV3KMolBlock(mol) if v3000 else Chem.MolToMolBlock(mol)
    data = "".join(f">  <{key}>\n{value}\n\n" for key, value in dict(fields).items())
    return f"{block}{data}$$$$\n"


def test_values_of_an_sdf_are_whole(tmp_path):
    fields = {"NAME": "first\nsecond", "NOTE": "seen at\n> 10 uM <NAME>\nonly"}
    path = put(tmp_path / "x.sdf", sdf("CCO", fields=fields))
    library = MoleculeFile(path, columns="all")
    (batch,) = library.iter_batches(9)
    assert batch.names.tolist() == ["first\nsecond"]
    assert batch.columns["NOTE"].tolist() == ["seen at\n> 10 uM <NAME>\nonly"]
    text = sdf("CCO", fields={"NAME": "a", "ID": "7"}).replace("\n\n>", "\n>")
    path = put(tmp_path / "y.sdf", text)
    assert read(MoleculeFile(path)) == (["CCO"], ["a"])
    assert read(MoleculeFile(path, name_column="ID")) == (["CCO"], ["7"])


@pytest.mark.parametrize("n_without", [1, 300])
def test_fields_that_the_first_records_lack(tmp_path, n_without):
    text = sdf("CCO") * n_without + sdf("CCN", fields={"SMI": "NCC", "price": "3"})
    path = put(tmp_path / "x.sdf", text)
    library = MoleculeFile(path, smiles_column="SMI", name_column="price")
    assert read(library, start=n_without) == (["NCC"], ["3"])
    (batch,) = MoleculeFile(path, columns="all").iter_batches(9, start=n_without)
    assert {k: v.tolist() for k, v in batch.columns.items()} == {
        "SMI": ["NCC"],
        "price": ["3"],
    }


def test_records_that_are_not_as_they_should(tmp_path):
    one, two = sdf("CCO", "a", {"X": "1"}), sdf("CCN", "b", v3000=True)
    cases = {
        "no $$$$ between": one.replace("$$$$\n", "") + two,
        "no $$$$ at the end": one + two.replace("$$$$\n", ""),
        "an empty line more": f"\n{one}\n\n{two}\n\n",
        "windows": (one + two).replace("\n", "\r\n"),
    }
    for text in cases.values():
        found = read(MoleculeFile(put(tmp_path / "x.sdf", text)))
        assert found == (["CCO", "CCN"], ["a", "b"])
    untitled = one.split("\n", 1)[1]
    assert read(MoleculeFile(put(tmp_path / "y.sdf", untitled))) == (["CCO"], [""])
    inside = sdf("CCO", "a", {"PARENT": Chem.MolToMolBlock(Chem.MolFromSmiles("CCC"))})
    assert read(MoleculeFile(put(tmp_path / "z.sdf", inside))) == (["CCO"], ["a"])
    for name in ("x.smi", "x.csv", "x.mol"):
        assert read(MoleculeFile(put(tmp_path / name, one))) == (["CCO"], ["a"])
    with pytest.raises(ValueError, match="no record of an SDF"):
        MoleculeFile(put(tmp_path / "w.sdf", LINES))


# A dry run


def test_describe(tmp_path):
    rows = ["CCO;S1;1", "C1C;S2;2", ";S3;3", "CCN;;4"] * 300
    path = put(tmp_path / "<x>.csv.gz", gzip.compress(
        "\n".join(["SMILES;Catalog No.;price", *rows]).encode()
    ))  # fmt: skip
    seen = MoleculeFile(path, columns=["price"]).describe()
    assert (seen.format, seen.compression, seen.encoding) == ("csv", "gzip", "utf-8")
    assert seen.columns == ("SMILES", "Catalog No.", "price")
    assert (seen.smiles_column, seen.name_column) == ("SMILES", "Catalog No.")
    assert seen.further_columns == ("price",)
    assert (seen.n_rows, seen.n_looked_at, seen.n_readable) == (1200, 1000, 500)
    assert (seen.n_missing, seen.n_invalid, seen.n_unnamed) == (250, 250, 250)
    assert seen.examples[0] == ("CCO", "S1")
    assert len(seen.bad_rows) == 20
    assert "500 (50.0%); missing 250, not valid 250" in repr(seen)
    assert "&lt;x&gt;" in seen._repr_html_()
    assert MoleculeFile(path).describe(None).n_looked_at == 1200
    assert MoleculeFile(put(tmp_path / "x.smi", "")).describe().n_readable == 0
    seen = MoleculeFile(put(tmp_path / "x.smi", "*CC a\nCCO b\n")).describe()
    assert (seen.n_invalid, seen.bad_rows["entry"].tolist()) == (1, ["*CC"])
    seen = MoleculeFile(put(tmp_path / "x.sdf", sdf("CCO") + "junk\n$$$$\n")).describe()
    assert seen.bad_rows["row"].tolist() == [1]


def test_describe_of_parquet(parquet):
    seen = MoleculeFile(parquet(pd.DataFrame({"smiles": ["C", "x"]}))).describe()
    assert seen.bad_rows.values.tolist() == [[1, None, "x", "not a valid SMILES"]]
    assert "parquet" in repr(seen)


# Whatever happens to a file: the right rows, counted bad ones, or an error


def mutated(rng, data):
    at = rng.randrange(len(data))
    kind = rng.choice(["quote", "byte", "cut", "swap", "space"])
    if kind == "cut":
        return data[:at]
    new = {
        "quote": b'"',
        "byte": bytes([rng.randrange(256)]),
        "swap": data[at : at + 2][::-1],
        "space": rng.choice([b" ", b"\t", b";"]),
    }[kind]
    return data[:at] + new + data[at + rng.choice([0, len(new)]) :]


@pytest.mark.parametrize("ending", [".smi", ".csv", ".tsv", ".txt", ".sdf"])
def test_no_row_is_lost_in_silence(tmp_path, ending):
    rng = random.Random(0)
    texts = [("C" * (i % 9 + 1) + "O", f"name {i}") for i in range(40)]
    if ending == ".sdf":
        whole = "".join(sdf(s, name, {"ID": name}) for s, name in texts[:8])
    else:
        separator = {".csv": ",", ".tsv": "\t", ".smi": " ", ".txt": ";"}[ending]
        whole = "smiles" + separator + "name\n"
        whole += "".join(f"{s}{separator}{name}\n" for s, name in texts)
        if ending == ".csv":
            whole = whole.replace("name 7", '"name, 7"').replace("name 9", '"a\nb"')
    expected = MoleculeFile(put(tmp_path / f"whole{ending}", whole)).describe(None)
    errors = []
    for i in range(150):
        data = mutated(rng, whole.encode())
        path = put(tmp_path / f"x{i}{ending}", data)
        # A line that is gone, or is a comment or another header, is no row.
        n_lost = whole.count("\n") - len(data.decode("latin-1").splitlines())
        n_lost += data.count(b"#") if ending == ".smi" else 0
        if ending == ".sdf":
            n_lost = 8 - data.count(b"M  END")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LibraryWarning)
            try:
                found = MoleculeFile(path).describe(None)
            except ValueError as error:
                errors.append((str(path), str(error)))
                continue
        assert found.n_looked_at >= expected.n_looked_at - max(n_lost, 0) - 1, data
        assert found.n_readable + found.n_missing + found.n_invalid == found.n_looked_at
    assert all(path in error for path, error in errors)


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("a.csv", "# a library of 2020\n# made by hand, twice\n"),
        ("a.csv", "My library,,\n,,\n"),
        ("a.txt", "!Title: drugs\n!SMILES, checked, in the last column\n"),
    ],
)
def test_notes_above_the_header(tmp_path, name, notes):
    separator = "\t" if name.endswith("txt") else ","
    rows = [("id", "moa", "SMILES"), ("1", "x", "CCO"), ("2", "y", "CCN")]
    path = tmp_path / name
    path.write_text(notes + "".join(separator.join(row) + "\n" for row in rows))
    (batch,) = MoleculeFile(path).iter_batches(10)
    assert list(batch.smiles) == ["CCO", "CCN"]
    assert list(batch.names) == ["1", "2"]
    (rest,) = MoleculeFile(path).iter_batches(10, start=1)
    assert list(rest.smiles) == ["CCN"]


def test_more_fields_than_the_header_are_said(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("smiles,name\nCCN,amine,\nCCO,2,4-dinitrophenol\nCCC,1,3-x\n")
    with pytest.warns(LibraryWarning, match="line 3 has 3 fields, and the header has"):
        (batch,) = MoleculeFile(path).iter_batches(10)
    assert list(batch.smiles) == ["CCN", "CCO", "CCC"]


def test_a_spreadsheet_is_refused_with_what_helps(tmp_path):
    path = tmp_path / "a.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"give pandas\.read_excel\(path\)"):
        MoleculeFile(path)


def chain_v3000(n):
    atoms = "".join(f"M  V30 {i + 1} C 0 0 0 0\n" for i in range(n))
    bonds = "".join(f"M  V30 {i} 1 {i} {i + 1}\n" for i in range(1, n))
    return (
        "chain\n\n\n  0  0  0  0  0  0  0  0  0  0999 V3000\nM  V30 BEGIN CTAB\n"
        f"M  V30 COUNTS {n} {n - 1} 0 0 0\nM  V30 BEGIN ATOM\n{atoms}M  V30 END ATOM\n"
        f"M  V30 BEGIN BOND\n{bonds}M  V30 END BOND\nM  V30 END CTAB\nM  END\n$$$$\n"
    )


@pytest.mark.parametrize("n", [2500, 20_000])
def test_giant_structures_are_bad_rows(tmp_path, n):
    text = chain_v3000(3) + chain_v3000(n) + chain_v3000(2)
    library = MoleculeFile(write(tmp_path / "x.sdf", text))
    smiles, _ = read(library)
    assert [smiles[0], smiles[2]] == ["CCC", "CC"]
    assert smiles[1].startswith("unreadable record 'chain' of ")


@pytest.mark.parametrize("name", ["x.smi", "x.csv", "x.sdf"])
def test_a_packed_line_without_an_end(tmp_path, name):
    text = {
        "x.smi": "CCO a\n",
        "x.csv": "smiles,name\nCCO,a\n",
        "x.sdf": chain_v3000(3),
    }
    path = tmp_path / f"{name}.gz"
    bomb = b"C" * (17 * 2**20)
    path.write_bytes(gzip.compress(text.get(name, chain_v3000(3)).encode() + bomb, 1))
    with pytest.raises(CorruptFileError, match=rf"{name}\.gz.*line .*16,777,216"):
        read(MoleculeFile(path))


def test_a_row_and_a_record_without_an_end(tmp_path):
    row = '"C\n",' * 4_000_000
    path = write(tmp_path / "x.csv.gz", f"smiles,name\nCCO,a\n{row}")
    with pytest.raises(
        CorruptFileError, match=r"the row that begins '\"C.*longer than"
    ):
        read(MoleculeFile(path))
    record = chain_v3000(3).removesuffix("$$$$\n") + ("x" * 2**20 + "\n") * 65
    path = write(tmp_path / "x.sdf.gz", record)
    with pytest.raises(CorruptFileError, match=r"the record in line 1: .*67,108,864"):
        read(MoleculeFile(path))


def test_a_lost_block_is_told_and_a_zero_byte_is_kept(tmp_path):
    path = tmp_path / "x.smi"
    path.write_bytes(b"CCO a\nC\x00C b\n")
    assert read(MoleculeFile(path)) == (["CCO", "C\x00C"], ["a", "b"])
    path.write_bytes(b"CCO a\n" * 10_000 + bytes(512) + b"CCO a\n" * 9)
    with pytest.raises(CorruptFileError, match=r"line 10,001: .*zero bytes"):
        read(MoleculeFile(path))


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_a_damaged_second_stream_is_no_end(tmp_path, pack):
    path = tmp_path / "x.smi.packed"
    one, two = pack(b"CCO a\n" * 9), pack(b"CCN b\n" * 9)
    path.write_bytes(one + two)
    assert len(read(MoleculeFile(path, format="smi"))[0]) == 18
    path.write_bytes(one + b"X" + two[1:])
    with pytest.raises(CorruptFileError, match=r"x\.smi\.packed"):
        read(MoleculeFile(path, format="smi"))


def test_checksums_of_parquet_are_checked(tmp_path, parquet):
    frame = pd.DataFrame({"smiles": ["CCCCCCCC", "CCO"], "name": ["a", "b"]})
    path = tmp_path / "x.parquet"
    frame.to_parquet(path, compression=None, write_page_checksum=True)
    content = path.read_bytes()
    at = content.index(b"CCCCCCCC")
    path.write_bytes(content[:at] + b"N" + content[at + 1 :])
    with pytest.raises(CorruptFileError, match=r"x\.parquet.*CRC"):
        read(MoleculeFile(path))


def test_many_comments_are_looked_at_once(tmp_path):
    path = write(tmp_path / "x.smi", "<!---->" * 200 + "C\n")
    assert len(read(MoleculeFile(path))[0]) == 1


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.smi")
    with pytest.raises(ValueError, match=r"Got '.*x\.smi', a pipe"):
        MoleculeFile(tmp_path / "x.smi")
    with pytest.raises(ValueError, match="Got '/dev/zero', a device"):
        MoleculeFile("/dev/zero", format="smi")


def test_many_columns_without_a_name(tmp_path):
    path = write(tmp_path / "x.csv", "smiles,name" + "," * 50_000 + "\nCCO,a\n")
    library = MoleculeFile(path)
    assert read(library) == (["CCO"], ["a"])
    assert library.describe().columns[-2:] == (".49998", ".49999")


INCHI = [
    "InChI=1S/C2H6O/c1-2-3/h3H,2H2,1H3",
    "InChI=1S/C2H5NO/c1-2(3)4/h1H3,(H2,3,4)",
    "InChI=1S/bad",
]
OF_INCHI = ["CCO", "CC(N)=O", "InChI=1S/bad"]


def lines_of(write, header=""):
    return header + "".join(write(k, text) + "\n" for k, text in enumerate(INCHI))


FORMS = {
    "x.txt": lines_of(lambda k, text: text),
    "x.smi": lines_of(lambda k, text: f"{text} n{k}"),
    "names.txt": lines_of(lambda k, text: f"n{k}\t{text}"),
    "x.tsv": lines_of(lambda k, text: f"n{k}\t{text}", "id\tInChI\n"),
    "x.csv": lines_of(lambda k, text: f'n{k},"{text}",K', "id,Standard InChI,key\n"),
    "other.csv": lines_of(lambda k, text: f"n{k};{text}", "id;blob\n"),
    "empty.csv": lines_of(lambda k, text: f'n{k},,"{text}"', "id,SMILES,inchi\n"),
}


@pytest.mark.parametrize("name", FORMS)
def test_inchi_is_converted_and_told(tmp_path, name):
    path = put(tmp_path / name, FORMS[name])
    file = MoleculeFile(path)
    with pytest.warns(LibraryWarning, match=r"InChI: 2 are .* 1 cannot be re") as told:
        (batch,) = file.iter_batches(9)
    assert told[0].filename == __file__
    assert batch.smiles.tolist() == OF_INCHI
    if name != "x.txt":
        assert batch.names.tolist() == ["n0", "n1", "n2"]
    description = file.describe()
    assert (description.n_inchi, description.n_invalid) == (2, 1)
    assert "2 converted to SMILES" in repr(description)
    assert "an InChI" in description.bad_rows["reason"][0]


def test_smiles_come_before_inchi(tmp_path):
    text = 'smiles,inchi,id\nCCN,"' + INCHI[0] + '",a\n'
    (batch,) = MoleculeFile(put(tmp_path / "x.csv", text)).iter_batches(9)
    assert batch.smiles.tolist() == ["CCN"]
    # Unless they are asked for.
    file = MoleculeFile(tmp_path / "x.csv", smiles_column="inchi")
    with pytest.warns(LibraryWarning, match="of column 'inchi' are InChI: 1 are"):
        (batch,) = file.iter_batches(9)
    assert batch.smiles.tolist() == ["CCO"]


def test_a_table_in_memory_with_inchi():
    study = make_perturbation_study(8, n_genes=12, level=5, random_state=0)
    model = make_pipeline(MorganFingerprinter(), CCA(n_components=3, ridge=1.0))
    model.fit(study.smiles, study.ge)
    table = pd.DataFrame({"InChI": INCHI[:2], "name": ["a", "b"]})
    with pytest.warns(LibraryWarning, match="of column 'InChI' are InChI: 2 are"):
        index = MoleculeIndex(model).fit(table)
    same = MoleculeIndex(model).fit(["CCO", "CC(N)=O"])
    got, expected = (i.query(study.ge[:1], 2) for i in (index, same))
    assert got["molecule"].tolist() == expected["molecule"].tolist()
    assert set(got["name"]) == {"a", "b"}
