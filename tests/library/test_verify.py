"""verify_index, ``open(verify=True)`` and the command: what is damaged is found."""

import json
import shutil
import sqlite3

import numpy as np
import pytest

from sklearn_molge.__main__ import main
from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.library import MoleculeIndex, verify_index


@pytest.fixture
def index(index_of, tmp_path):
    return index_of(np.eye(40, 8), "dot", folder=tmp_path / "index")


def change(path, at, value):
    content = bytearray(path.read_bytes())
    content[at : at + len(value)] = value
    path.write_bytes(content)


def test_good_ones(index, capsys):
    checked = verify_index(index.folder)
    assert checked["molecules"] == checked["vectors"] == 40
    assert checked["rows of the index of faiss"] == 0
    MoleculeIndex.open(index.folder, verify=True)
    assert main(["verify", str(index.folder)]) == 0
    assert "40 molecules\n" in capsys.readouterr().out


def test_the_command_says_which_part(index, capsys):
    path = index.folder / "vectors.bin"
    change(path, 100, b"\x01")
    MoleculeIndex.open(index.folder)
    with pytest.raises(CorruptFileError, match=r"vectors\.bin"):
        MoleculeIndex.open(index.folder, verify=True)
    assert main(["verify", str(index.folder)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"damaged: {path} cannot be read: rows 0 to 39: ")


def test_what_is_no_index(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="not the folder of a MoleculeIndex"):
        verify_index(tmp_path)
    assert main(["verify", str(tmp_path)]) == 2
    assert "not the folder of a MoleculeIndex" in capsys.readouterr().err


def test_the_index_of_faiss_as_well(index):
    pytest.importorskip("faiss")
    opened = MoleculeIndex.open(index.folder, backend="faiss")
    opened.kneighbors(np.eye(8), 1)
    assert verify_index(index.folder)["rows of the index of faiss"] == 40
    change(index.folder / "index.faiss", 50, b"\x01\x02\x03")
    with pytest.raises(CorruptFileError, match=r"index.faiss .* checksum is another"):
        verify_index(index.folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("reverse", [False, True])
def test_no_answer_of_a_vector_that_cannot_be(index, value, reverse):
    change(index.folder / "vectors.bin", 7 * 32 + 4, np.float32(value).tobytes())
    opened = MoleculeIndex.open(index.folder)
    y = np.eye(8)[1:2] - 2 * reverse * np.eye(8)[1:2]
    asked = [
        lambda: opened.kneighbors(y, 3, reverse=reverse),
        lambda: opened.rank(y, "7", reverse=reverse),
    ]
    if not np.isfinite(value):
        asked += [
            lambda: opened.similarity_to_rows(y, [7]),
            lambda: opened.significance(y, n_permutations=5),
        ]
    for ask in asked:
        with pytest.raises(CorruptFileError, match=r"vectors.bin.*row 7: its values"):
            ask()


@pytest.mark.parametrize(
    ("change_identity", "why"),
    [
        (lambda d: d.pop("probes"), "describes no index"),
        (lambda d: d.update(unique_by=["drug"]), "describes no index"),
        (lambda d: d.update(genes={"symbol": ["A"], "gene_id": []}), "one length"),
        (lambda d: d.update(genes={"symbol": [1]}), "no genes"),
        (lambda d: d.update(probes=[[1.0]]), "of shape"),
        (lambda d: d.update(probes=None), "of shape"),
        (lambda d: d["probes"][0].__setitem__(0, float("nan")), "not finite"),
    ],
)
def test_an_identity_that_cannot_be(index, tmp_path, change_identity, why):
    identity = json.loads(json.dumps(index.store_.identity))
    change_identity(identity)
    other = type(index.store_).create(
        tmp_path / "other", n_components=8, dtype="float32", metric="dot",
        identity=identity,
    )  # fmt: skip
    with pytest.raises(CorruptFileError, match=f"what the embedder is: .*{why}"):
        MoleculeIndex.open(other.folder, estimator=index.estimator_)


def test_molecules_that_are_none_any_more(index, tmp_path):
    """Without `verify` a text may be another; the error still names the file."""
    index.calibrate(["CCO"])
    copy = shutil.copytree(index.folder, tmp_path / "copy")
    with sqlite3.connect(copy / "index.sqlite") as db:
        db.execute("UPDATE molecules SET smiles = 'no molecule'")
    db.close()
    opened = MoleculeIndex.open(copy)
    with pytest.raises(CorruptFileError, match=r"index.sqlite.*column smiles"):
        opened.query(np.eye(8)[:1], 3, n_permutations=0)
