import os
import pickle
import signal
import subprocess
import sys
import textwrap
import tracemalloc

import h5py
import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_molge.datasets import Study, make_perturbation_study
from sklearn_molge.exceptions import CorruptFileError, DataWarning
from sklearn_molge.retrieval import DoubleNNRetriever

anndata = pytest.importorskip("anndata")


def make(n=4, n_controls=3, **changes):
    """A study with a column of every kind that can be stored."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "cell_line": ["L1", "L2"] * (n // 2),
            "plate": ["A", "B"] * (n // 2),
            "drug": [f"d{i}" for i in range(n)],
            "dose_um": np.linspace(0, 1, n),
            "gaps": [np.nan, 1.5] * (n // 2),
            "single": np.linspace(0, 1, n, dtype=np.float32),
            "whole": np.arange(n) + 2**60 + 1,
            "small": np.arange(n, dtype=np.uint8),
            "good": [True, False] * (n // 2),
            "text_gaps": ["x|y", np.nan] * (n // 2),
            "nothing": np.full(n, np.nan, dtype=object),
            "none": np.full(n, None, dtype=object),
            "empty_text": ["", "é\u03bc"] * (n // 2),
            "nullable": pd.array([1, None] * (n // 2), dtype="Int32"),
            "maybe": pd.array([True, None] * (n // 2), dtype="boolean"),
            "string": pd.array(["a", None] * (n // 2), dtype="string"),
            "class": pd.Categorical(["b", None] * (n // 2), ["c", "b"], ordered=True),
            "numbers": pd.Categorical([3, 1] * (n // 2)),
        },
        index=pd.Index([f"t{i}" for i in range(n)], name="inst_id", dtype=object),
    )
    controls = pd.DataFrame(
        {
            "plate": (["A", "B"] * n_controls)[:n_controls],
            "dose_um": np.full(n_controls, np.nan),
            "only_here": np.arange(n_controls),
            "text_gaps": np.full(n_controls, np.nan),
            "whole": np.arange(n_controls, dtype=np.int32),
            "class": pd.Categorical(["z"] * n_controls),
        }
    )
    parts = {
        "smiles": ["CCO", "CCN"] * (n // 2),
        "ge": rng.normal(size=(n, 5)),
        "obs": obs,
        "genes": pd.DataFrame(
            {"gene_id": [5, 4, 3, 2, 1], "symbol": list("edcba"), "is_landmark": True},
            index=pd.Index([10, 20, 30, 40, 50], name="row"),
        ),
        "control_ge": rng.normal(size=(n_controls, 5)),
        "control_obs": controls,
        "level": 3,
        "dropped": pd.DataFrame(
            {
                "step": ["s", "t"],
                "n_dropped": [1, 0],
                "n_left": [3, 3],
                "x": [None, "d"],
            }
        ),
    }
    return Study(**(parts | changes))


def assert_same_table(one, other):
    assert (one is None) == (other is None)
    if one is None:
        return
    pd.testing.assert_frame_equal(one, other, check_index_type="equiv")
    assert one.index.name == other.index.name
    assert list(one.dtypes) == list(other.dtypes)
    for name in one:
        if one[name].dtype == object:
            missing = [value is None for value in one[name]]
            assert missing == [value is None for value in other[name]]


def assert_same(one, other):
    assert one.smiles.dtype == other.smiles.dtype == object
    assert one.smiles.tolist() == other.smiles.tolist()
    for name in ("ge", "control_ge"):
        values, others = getattr(one, name), getattr(other, name)
        assert (values is None) == (others is None)
        if values is not None:
            assert values.dtype == others.dtype
            np.testing.assert_array_equal(values, others)
    for name in ("obs", "genes", "control_obs", "dropped"):
        assert_same_table(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.groups, other.groups)
    assert one.level == other.level


@pytest.mark.parametrize("mode", ["r", "c", None])
def test_round_trip(tmp_path, mode):
    study = make()
    study.save(tmp_path / "study.h5ad")
    assert_same(Study.load(tmp_path / "study.h5ad", mmap_mode=mode), study)
    assert os.listdir(tmp_path) == ["study.h5ad"]


@pytest.mark.parametrize(
    "changes",
    [
        {"control_ge": None, "control_obs": None},
        {"level": None, "dropped": None},
        {"genes": pd.DataFrame(index=range(5), columns=pd.Index([], dtype=object))},
        {"genes": pd.DataFrame({"symbol": list("aabcd")})},
        {"ge": [[np.nan, np.inf, -np.inf, -0.0, 1e-45]] * 4},
        {"dropped": pd.DataFrame({"step": []})},
    ],
)
def test_round_trip_of_studies_that_lack_something(tmp_path, changes):
    study = make(**changes)
    study.save(tmp_path / "study.h5ad")
    again = Study.load(tmp_path / "study.h5ad")
    assert_same(again, study)
    np.testing.assert_array_equal(np.signbit(again.ge), np.signbit(study.ge))


@pytest.mark.parametrize(("n", "n_controls"), [(0, 0), (2, 0), (0, 2)])
def test_round_trip_of_empty_studies(tmp_path, n, n_controls):
    study = make(n, n_controls)
    study.save(tmp_path / "study.h5ad")
    for mode in ("r", "c", None):
        assert_same(Study.load(tmp_path / "study.h5ad", mmap_mode=mode), study)


def test_profiles_that_are_there_twice(tmp_path):
    study = make()[[0, 0, 1]]
    study.save(tmp_path / "study.h5ad")
    assert_same(Study.load(tmp_path / "study.h5ad"), study)


# HDF5 holds no text with a zero, UTF-8 none with half a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.just(float("nan")), TEXT),
        min_size=4,
        max_size=4,
    ),
    st.lists(st.floats(width=32), min_size=4, max_size=4),
)
def test_round_trip_of_any_text_and_number(tmp_path_factory, texts, numbers):
    texts = [
        text.replace("\0", "") if isinstance(text, str) else text for text in texts
    ]
    texts = ["?" if "\ud800" <= str(t) < "\ue000" else t for t in texts]
    obs = make().obs.assign(texts=pd.Series(texts, dtype=object).array, numbers=numbers)
    study = make(obs=obs, ge=np.repeat(np.float32(numbers)[:, None], 5, axis=1))
    path = tmp_path_factory.mktemp("any") / "study.h5ad"
    study.save(path)
    again = Study.load(path)
    np.testing.assert_array_equal(again.ge, study.ge)
    assert again.obs["numbers"].equals(study.obs["numbers"])
    # A column that mixes None and NaN comes back with NaN.
    assert again.obs["texts"].equals(study.obs["texts"])


def test_the_file_holds_what_anndata_would_write(tmp_path):
    study = make()
    study.save(tmp_path / "ours.h5ad")
    study.to_anndata().write_h5ad(tmp_path / "theirs.h5ad")
    ours, theirs = (
        anndata.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("ours", "theirs")
    )
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert ours.X.dtype == theirs.X.dtype == np.float32
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    pd.testing.assert_frame_equal(ours.var, theirs.var)
    assert list(ours.uns) == list(theirs.uns)
    assert_same(Study.from_anndata(ours), study)
    for mode in ("r", None):
        assert_same(Study.load(tmp_path / "theirs.h5ad", mmap_mode=mode), study)
    backed = anndata.read_h5ad(tmp_path / "ours.h5ad", backed="r")
    assert_same(Study.from_anndata(backed), study)
    backed.file.close()


def test_the_matrix_is_in_one_piece(tmp_path):
    study = make()
    study.save(tmp_path / "study.h5ad")
    with h5py.File(tmp_path / "study.h5ad") as file:
        assert file["X"].chunks is None
        assert file["X"].id.get_offset() % 64 == 0
        offset = file["X"].id.get_offset()
    raw = np.fromfile(tmp_path / "study.h5ad", np.float32, 35, offset=offset)
    np.testing.assert_array_equal(raw[:20].reshape(4, 5), study.ge)
    np.testing.assert_array_equal(raw[20:].reshape(3, 5), study.control_ge)


def test_what_is_written_to_is_never_the_file(tmp_path):
    path = tmp_path / "study.h5ad"
    make().save(path)
    before = path.read_bytes()
    mapped = Study.load(path)
    with pytest.raises(ValueError, match="read-only"):
        mapped.ge[0, 0] = 1
    for mode in ("c", None):
        private = Study.load(path, mmap_mode=mode)
        private.ge[:] = 7
        private.control_ge[:] = 8
        del private
    assert path.read_bytes() == before


def test_saving_over_its_own_file(tmp_path):
    path = tmp_path / "study.h5ad"
    study = make()
    study.save(path)
    mapped = Study.load(path)
    mapped.save(path)
    assert_same(mapped, study)
    assert_same(Study.load(path), study)
    # What is open goes on to hold what was in the file when it was opened.
    mapped[[2]].save(path)
    assert_same(mapped, study)
    assert Study.load(path).obs.index.tolist() == ["t2"]


def test_a_mapped_study_does_what_a_study_does(tmp_path):
    study = make()
    study.save(tmp_path / "study.h5ad")
    mapped = Study.load(tmp_path / "study.h5ad")
    assert_same(mapped[[3, 0]], study[[3, 0]])
    np.testing.assert_array_equal(mapped.paired_ge(), study.paired_ge())
    both = Study.concat([mapped, study])
    np.testing.assert_array_equal(both.ge, np.vstack([study.ge] * 2))
    assert_same(pickle.loads(pickle.dumps(mapped)), study)
    joblib.dump(mapped, tmp_path / "study.joblib")
    assert_same(joblib.load(tmp_path / "study.joblib"), study)
    z = mapped.to_level4().consensus()
    np.testing.assert_array_equal(z.ge, study.to_level4().consensus().ge)


def test_conversion_copies_no_more_than_it_must(tmp_path):
    study = make(1000)
    study.save(tmp_path / "study.h5ad")
    for mode in ("r", "c", None):
        mapped = Study.load(tmp_path / "study.h5ad", mmap_mode=mode)
        adata = mapped.to_anndata()
        assert np.shares_memory(adata.X, mapped.ge)
        assert np.shares_memory(adata.X, mapped.control_ge)
        again = Study.from_anndata(adata)
        assert np.shares_memory(again.ge, mapped.ge)
        assert np.shares_memory(again.control_ge, mapped.control_ge)
        assert_same(again, study)
    # Parts of one array that do not follow each other are put together by a copy.
    whole = np.vstack([study.control_ge, study.ge])
    swapped = make(1000, ge=whole[3:], control_ge=whole[:3])
    np.testing.assert_array_equal(
        swapped.to_anndata().X, np.vstack([study.ge, study.control_ge])
    )


def _sum_and_type(study):
    return float(study.ge.sum() + study.control_ge.sum()), type(study.ge).__name__


@pytest.mark.parametrize("mode", ["r", "c"])
def test_worker_processes_see_the_study(tmp_path, mode):
    study = make(20_000)
    study.save(tmp_path / "study.h5ad")
    mapped = Study.load(tmp_path / "study.h5ad", mmap_mode=mode)
    if mode == "c":
        mapped.ge[:] = study.ge + 1
        study.ge += 1
    results = joblib.Parallel(n_jobs=2)(
        joblib.delayed(_sum_and_type)(mapped) for _ in range(2)
    )
    kind = "memmap" if mode == "r" else "ndarray"
    assert results == [(_sum_and_type(study)[0], kind)] * 2


def test_estimators_take_a_mapped_study(tmp_path):
    from sklearn_molge.molecules import MorganFingerprinter

    study = make_perturbation_study(
        12, n_cell_lines=2, n_genes=30, level=5, random_state=0
    )
    study.save(tmp_path / "study.h5ad")
    mapped = Study.load(tmp_path / "study.h5ad")
    X = MorganFingerprinter().fit_transform(study.smiles)
    scores = [
        DoubleNNRetriever().fit(X, profiles).score(X, profiles)
        for profiles in (study.ge, mapped.ge)
    ]
    assert scores[0] == scores[1]


def test_memory(tmp_path):
    study = make(2000, ge=np.zeros((2000, 2000)), control_ge=np.ones((3, 2000)),
                 genes=pd.DataFrame({"gene_id": np.arange(2000)}))  # fmt: skip
    path = tmp_path / "study.h5ad"
    study.save(path)
    Study.load(path)
    size = study.ge.nbytes
    tracemalloc.start()
    study.save(path)
    saving = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    mapped = Study.load(path)
    mapping = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    Study.load(path, mmap_mode=None)
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(mapped) == 2000
    assert saving < size / 3
    assert mapping < size / 3
    assert reading < 1.3 * size


# What goes wrong.


class InterruptionError(Exception):
    pass


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "study.h5ad"
    study = make()
    study.save(path)

    create_dataset = h5py.Group.create_dataset

    def fail(group, name, *args, **options):
        made = create_dataset(group, name, *args, **options)
        if name == "X":
            raise InterruptionError
        return made

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(InterruptionError):
        study[:2].save(path)
    assert os.listdir(tmp_path) == ["study.h5ad"]
    assert_same(Study.load(path), study)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "study.h5ad"
    study = make()
    study.save(path)
    script = """
        import os, signal, sys
        import h5py
        from sklearn_molge.datasets import Study
        create_dataset = h5py.Group.create_dataset
        def die(group, name, *args, **options):
            made = create_dataset(group, name, *args, **options)
            if name == "X":
                group.file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return made
        h5py.Group.create_dataset = die
        study = Study.load(sys.argv[1])
        study[:2].save(sys.argv[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert_same(Study.load(path), study)
    assert len(os.listdir(tmp_path)) == 2
    study[:2].save(path)
    assert len(Study.load(path)) == 2


def test_without_anndata(tmp_path, monkeypatch):
    study = make()
    monkeypatch.setitem(sys.modules, "anndata", None)
    message = r'needs anndata: pip install "sklearn-molge\[anndata\]"'
    with pytest.raises(ImportError, match=r"Study.save " + message):
        study.save(tmp_path / "study.h5ad")
    with pytest.raises(ImportError, match=r"Study.load " + message):
        Study.load(tmp_path / "study.h5ad")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"x": pd.to_datetime(["2020"] * 4)}, r"obs\['x'\] of dtype datetime64"),
        ({"x": pd.Series([1, "a", 2, 3], dtype=object).array}, r"obs\['x'\] .* object"),
        ({"x": [[1], [2], [3], [4]]}, r"obs\['x'\] of dtype object"),
        ({"smiles": list("abcd")}, r"obs\['smiles'\] of dtype object cannot be saved"),
        ({"is_control": [True] * 4}, r"obs\['is_control'\] of dtype bool cannot"),
        ({"a/b": 1}, "columns of obs must be named by text without '/'.* Got 'a/b'"),
        ({"_index": 1}, "none '_index'.* Got '_index'"),
    ],
)
def test_columns_that_cannot_be_stored(tmp_path, column, message):
    study = make(obs=make().obs.assign(**column))
    with pytest.raises(ValueError, match=message):
        study.save(tmp_path / "study.h5ad")
    assert os.listdir(tmp_path) == []


def test_whole_numbers_that_anndata_cannot_write(tmp_path):
    obs = make().obs.assign(x=pd.arrays.SparseArray([1, 0, 0, 2]))
    study = make(obs=obs, control_ge=None, control_obs=None)
    with pytest.raises(ValueError, match=r"obs\['x'\] of dtype Sparse.* cannot"):
        study.save(tmp_path / "study.h5ad")


def test_tables_that_cannot_be_stored(tmp_path):
    path = tmp_path / "study.h5ad"
    study = make()
    study.genes.columns = [0, 1, 2]
    with pytest.raises(ValueError, match=r"columns of genes must be named .* Got 0"):
        study.save(path)
    study = make()
    study.obs.columns = [*study.obs.columns[:-1], "plate"]
    with pytest.raises(
        ValueError, match=r"obs must have .* columns of different names"
    ):
        study.save(path)
    study = make()
    study.control_obs.index = pd.MultiIndex.from_product([["a"], [1, 2, 3]])
    with pytest.raises(ValueError, match="control_obs must have an index of one level"):
        study.save(path)
    study = make()
    study.obs.index = pd.Index([1, "a", None, 2.5], dtype=object)
    with pytest.raises(ValueError, match="The index of obs, named None and of dtype"):
        study.save(path)
    study.obs.index = pd.Index(range(4), name=("a", 1))
    with pytest.raises(ValueError, match=r"index of obs, named \('a', 1\) and of"):
        study.save(path)
    study = make()
    study.control_ge = study.control_ge[1:]
    with pytest.raises(ValueError, match=r"control_ge must be of shape \(3, 5\).*\(2,"):
        study.save(path)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        make().save(tmp_path / "nowhere" / "study.h5ad")


def test_files_that_are_no_study(tmp_path):
    path = tmp_path / "study.h5ad"
    with pytest.raises(FileNotFoundError, match=r"There is no file .*study.h5ad"):
        Study.load(path)
    path.write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"study.h5ad .* it is no HDF5 file"):
        Study.load(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(CorruptFileError, match=r"study.h5ad .* it is no HDF5 file"):
        Study.load(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"part 'uns/sklearn_molge': it is not"):
        Study.load(path)
    anndata.AnnData(np.ones((2, 2), np.float32)).write_h5ad(path)
    with pytest.raises(ValueError, match=r"Study.from_anndata\(anndata.read_h5ad"):
        Study.load(path)
    with pytest.raises(ValueError, match=r"'mmap_mode' parameter .* Got 'w'"):
        Study.load(path, mmap_mode="w")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.97, 0.9999, 1 - 1e-9])
def test_cut_files(tmp_path, kept):
    path = tmp_path / "study.h5ad"
    make(100).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    for mode in ("r", "c", None):
        with pytest.raises(
            CorruptFileError, match=r"study.h5ad .*(was cut|is missing)"
        ):
            Study.load(path, mmap_mode=mode)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("X", "part 'X': it must be an array of shape"),
        ("obs", "part 'obs': it is not there"),
        ("var", "part 'var': it is not there"),
        ("obs/cell_line", "part 'obs'"),
        ("uns/sklearn_molge/genes", "part 'uns/sklearn_molge', which describes"),
        ("uns/sklearn_molge/obs/types", "part 'uns/sklearn_molge', which describes"),
    ],
)
def test_files_that_lack_a_part(tmp_path, part, message):
    path = tmp_path / "study.h5ad"
    make().save(path)
    with h5py.File(path, "r+") as file:
        del file[part]
    with pytest.raises(CorruptFileError, match=r"study.h5ad.* its seal is missing"):
        Study.load(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["sklearn_molge_seal"]
    with pytest.raises(ValueError, match=f"study.h5ad.*{message}"):
        Study.load(path)


@pytest.mark.parametrize("mode", ["r", None])
def test_damaged_bytes_are_told(tmp_path, mode):
    path = tmp_path / "study.h5ad"
    make().save(path)
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(CorruptFileError, match=r"study\.h5ad cannot be read"):
            Study.load(path, mmap_mode=mode)


def test_a_zeroed_heap_of_texts_does_not_hang(tmp_path):
    path = tmp_path / "study.h5ad"
    make().save(path)
    make().to_anndata().write_h5ad(tmp_path / "foreign.h5ad")
    for name in ("study.h5ad", "foreign.h5ad"):
        content = bytearray((tmp_path / name).read_bytes())
        at = content.find(b"GCOL")
        content[at + 256 : at + 320] = bytes(64)
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptFileError, match=name):
            Study.load(tmp_path / name)


def test_values_in_another_file(tmp_path):
    path = tmp_path / "study.h5ad"
    make().to_anndata().write_h5ad(path)
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "x.h5", "w") as other:
        file.copy("X", other)
        del file["X"]
        file["X"] = h5py.ExternalLink("x.h5", "X")
    for mode in ("r", None):
        with pytest.raises(
            CorruptFileError, match=r"study\.h5ad .*'X': .*not followed"
        ):
            Study.load(path, mmap_mode=mode)


def test_infinite_values_of_a_file_without_checksums(tmp_path):
    path = tmp_path / "study.h5ad"
    make().to_anndata().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["X"][0, 0] = np.inf
    with pytest.raises(CorruptFileError, match="'X': 1 values are infinite"):
        Study.load(path, mmap_mode=None)
    with h5py.File(path, "r+") as file:
        file["X"][0, 0] = np.nan
    with pytest.warns(DataWarning, match=r"1 of [\d,]+ values of X are missing"):
        Study.load(path, mmap_mode=None)


def test_matrices_that_cannot_be_mapped(tmp_path):
    path = tmp_path / "study.h5ad"
    study = make()
    study.to_anndata().write_h5ad(path, compression="gzip")
    with pytest.raises(ValueError, match=r"part 'X' is compressed, in chunk"):
        Study.load(path)
    assert_same(Study.load(path, mmap_mode=None), study)
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = np.ones((2, 2), dtype=np.float32)
    with pytest.raises(ValueError, match=r"'X': it must be an array of shape \(7, 5\)"):
        Study.load(path)


def test_real_plates(tmp_path, level3_folder):
    adata = anndata.read_h5ad(level3_folder / "CPC006_HT115_6H_X1_X2.level3.h5ad")
    study = Study.from_anndata(adata, level=3)
    study.save(tmp_path / "study.h5ad")
    for mode in ("r", None):
        assert_same(Study.load(tmp_path / "study.h5ad", mmap_mode=mode), study)
