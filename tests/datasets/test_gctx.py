"""GCTX: what is written is read back, whatever the layout and the part asked for."""

import tracemalloc
import zlib
from contextlib import contextmanager

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal, assert_index_equal

from sklearn_molge.datasets import GctData, read_gct, read_gctx, write_gctx
from sklearn_molge.exceptions import CorruptFileError

N_SAMPLES, N_GENES = 23, 37

LAYOUTS = {
    "contiguous": {},
    "one sample": {"chunks": (1, N_GENES)},
    "one gene": {"chunks": (N_SAMPLES, 1)},
    "square": {"chunks": (5, 7)},
    "whole": {"chunks": (N_SAMPLES, N_GENES)},
    "gzip": {"chunks": (4, 10), "compression": "gzip", "shuffle": True},
    "gzip alone": {"chunks": (7, 9), "compression": 1},
    "shuffle alone": {"chunks": (7, 9), "shuffle": True},
    "lzf": {"chunks": (23, 9), "compression": "lzf"},
    "checksum": {"chunks": (3, 37), "fletcher32": True},
}
SELECTIONS = {
    "all": (None, None),
    "scattered": ([20, 3, 11, 0], [36, 1, 17, 2, 30]),
    "repeated": ([5, 5, -1, 2], [0, 0, 36]),
    "sorted": ([1, 2, 9, 22], [0, 4, 5, 6, 35]),
    "all samples": (None, [7, 3]),
    "all genes": ([7, 3], None),
    "reversed": (slice(None, None, -1), slice(None, None, -2)),
    "one": ([4], [4]),
    "none": ([], [1, 2]),
}


def text_index(ids):
    return pd.Index(np.asarray(ids, dtype=object), dtype=object, name="id")


def make_data(n_samples=N_SAMPLES, n_genes=N_GENES, seed=0):
    rng = np.random.default_rng(seed)
    return GctData(
        matrix=rng.normal(size=(n_samples, n_genes)).astype(np.float32),
        obs=pd.DataFrame(
            {
                "pert_id": pd.Series(
                    [f"BRD-{i % 5}" for i in range(n_samples)], dtype=object
                ),
                "dose_um": rng.uniform(0.1, 10, n_samples),
            },
        ).set_index(text_index([f"plate:{i:03d}" for i in range(n_samples)])),
        genes=pd.DataFrame({"is_landmark": np.arange(n_genes) % 2}).set_index(
            text_index([str(1000 + i) for i in range(n_genes)])
        ),
    )


def write_plain(path, matrix, layout=None, dtype=None, **attributes):
    """Write a GCTX file with h5py alone, in any layout."""
    n_samples, n_genes = matrix.shape
    with h5py.File(path, "w", **attributes) as file:
        file.create_dataset(
            "0/DATA/0/matrix", data=matrix, dtype=dtype, **(layout or {})
        )
        file["0/META/COL/id"] = np.array([f"s{i}" for i in range(n_samples)], dtype="S")
        file["0/META/ROW/id"] = np.array([f"g{i}" for i in range(n_genes)], dtype="S")
    return path


@contextmanager
def changing(path):
    """Open a file of `write_gctx` to change it, which its seal forbids."""
    with h5py.File(path, "a") as file:
        del file.attrs["sklearn_molge_seal"]
        yield file


@pytest.fixture
def data():
    return make_data()


@pytest.fixture
def path(tmp_path, data):
    write_gctx(tmp_path / "small.gctx", data)
    return tmp_path / "small.gctx"


# ---------------------------------------------------------------- layouts and parts


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stored", ["<f4", ">f4", "<f8", "<i2"])
def test_part_is_the_part_of_the_whole(tmp_path, layout, selection, stored):
    matrix = np.random.default_rng(1).integers(-99, 99, (N_SAMPLES, N_GENES))
    path = write_plain(tmp_path / "x.gctx", matrix, LAYOUTS[layout], stored)
    samples, genes = SELECTIONS[selection]
    rows = np.arange(N_SAMPLES)[slice(None) if samples is None else samples]
    columns = np.arange(N_GENES)[slice(None) if genes is None else genes]
    for chunk_bytes, n_jobs in ((1, 2), (600, None), (2**20, 1)):
        part = read_gctx(
            path,
            samples=samples,
            genes=genes,
            chunk_bytes=chunk_bytes,
            n_jobs=n_jobs,
        )
        assert part.matrix.dtype == np.float32
        assert_array_equal(part.matrix, matrix[np.ix_(rows, columns)])
        assert_array_equal(part.obs.index, [f"s{i}" for i in rows])
        assert_array_equal(part.genes.index, [f"g{i}" for i in columns])


def test_part_with_and_without_reading_through_gaps(tmp_path):
    """Gaps of up to 16 KiB in a row, and 64 KiB in a chunk, are read through."""
    matrix = np.random.default_rng(2).normal(size=(60, 50_000)).astype(np.float32)
    columns = np.array([49_999, 3, 25_000, 4, 26_500, 38_000])
    rows = np.array([59, 0, 1, 30, 34])
    for layout in ({}, {"chunks": (1, 100)}, {"chunks": (60, 2500)}):
        path = write_plain(tmp_path / "x.gctx", matrix, layout)
        for chunk_bytes in (1, 30_000, 2**20):
            part = read_gctx(path, samples=rows, genes=columns, chunk_bytes=chunk_bytes)
            assert_array_equal(part.matrix, matrix[np.ix_(rows, columns)])


def test_each_chunk_is_read_once_and_only_if_it_holds_a_wanted_value(
    tmp_path, monkeypatch
):
    n_read = np.zeros((40, 50), dtype=int)
    getitem = h5py.Dataset.__getitem__

    def counting(self, key, **options):
        if self.shape == n_read.shape:
            n_read[key] += 1
        return getitem(self, key, **options)

    # A filter that only HDF5 undoes.
    layout = {"chunks": (4, 5), "compression": "lzf"}
    path = write_plain(tmp_path / "x.gctx", np.zeros((40, 50)), layout)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", counting)
    read_gctx(path, samples=[39, 0, 1, 21], genes=[49, 0, 7])
    wanted = np.zeros((10, 10), dtype=int)
    wanted[np.ix_([0, 5, 9], [0, 1, 9])] = 1
    assert_array_equal(n_read, np.kron(wanted, np.ones((4, 5), dtype=int)))


@pytest.mark.parametrize(
    ("layout", "samples", "n_bytes"),
    [
        # Two chunks in a row hold wanted values; of each the wanted rows, 4 bytes a
        # value: a row is longer than the gap that is read through.
        ({"chunks": (10, 20_000)}, [25, 3, 24], 2 * (1 + 2) * 20_000 * 4),
        ({"chunks": (10, 20_000)}, [3, 5], 2 * (1 + 1) * 20_000 * 4),
        # Rows in one piece: the pages of 1024 values in which wanted ones lie.
        ({"chunks": (1, 40_000)}, [25, 3], 2 * (1024 + 64) * 4),
        ({}, [25, 3, 3], 3 * (1024 + 64) * 4),
    ],
)
def test_no_more_bytes_than_wanted(tmp_path, bytes_read, layout, samples, n_bytes):
    matrix = np.arange(1_200_000, dtype=np.float32).reshape(30, 40_000)
    path = write_plain(tmp_path / "x.gctx", matrix, layout)
    part = read_gctx(path, samples=samples, genes=[39_999, 0, 7])
    assert_array_equal(part.matrix, matrix[samples][:, [39_999, 0, 7]])
    assert sum(bytes_read) == n_bytes


@pytest.mark.parametrize("n_jobs", [2, -1])
@pytest.mark.parametrize(
    "layout",
    [{}, {"chunks": None}, {"chunks": (16, 300)}, {"compression": 1}],
    ids=str,
)
def test_threads_change_nothing(tmp_path, n_jobs, layout):
    """Of a matrix that is read in several tasks of 8 MiB."""
    matrix = np.random.default_rng(9).integers(0, 9, (4000, 1500)).astype(np.float32)
    frames = [pd.DataFrame(index=[str(i) for i in range(n)]) for n in matrix.shape]
    write_gctx(tmp_path / "x.gctx", matrix, *frames, **layout)
    rows = np.random.default_rng(7).permutation(4000)[:2000]
    genes = np.random.default_rng(8).permutation(1500)[:100]
    part = read_gctx(tmp_path / "x.gctx", samples=rows, genes=genes, n_jobs=n_jobs)
    assert_array_equal(part.matrix, matrix[np.ix_(rows, genes)])


def test_chunks_that_were_never_written(tmp_path):
    layouts = ({}, {"compression": 1, "shuffle": True}, {"compression": "lzf"})
    for number, options in enumerate(layouts):
        path = write_plain(tmp_path / f"{number}.gctx", np.zeros((20, 30)))
        with h5py.File(path, "a") as file:
            del file["0/DATA/0/matrix"]
            dataset = file.create_dataset(
                "0/DATA/0/matrix", (20, 30), np.float32,
                fillvalue=7, chunks=(5, 10), **options,
            )  # fmt: skip
            dataset[:5, :10] = 1
        for samples in (None, [0], [19, 2]):
            with pytest.raises(
                CorruptFileError, match=r"matrix'.*: 11 of 12 chunks are missing"
            ):
                read_gctx(path, samples=samples)


@pytest.mark.parametrize("name", ["0/DATA/0/matrix", "0/META/COL/id", "0/META/ROW/x"])
@pytest.mark.parametrize("chunks", [None, (1,)])
def test_values_that_were_never_written(tmp_path, name, chunks):
    path = write_plain(tmp_path / "x.gctx", np.zeros((2, 3)))
    shape = (2, 3) if "matrix" in name else (2,) if "COL" in name else (3,)
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        if chunks:
            chunks = chunks * len(shape)
            dataset = file.create_dataset(name, shape, np.float32, chunks=chunks)
            dataset[(0,) * len(shape)] = 5
        else:
            file.create_dataset(name, shape, np.float32)
    with pytest.raises(
        CorruptFileError, match=rf"x\.gctx.*'{name}'.*(never written|are missing)"
    ):
        read_gctx(path)


def test_chunk_without_some_of_its_filters(tmp_path):
    """HDF5 leaves out a filter that fails: bit i of the mask is the i-th filter."""
    matrix = np.arange(24, dtype="<f4").reshape(4, 6)
    layout = {"chunks": (2, 6), "shuffle": True, "compression": 1}
    path = write_plain(tmp_path / "x.gctx", np.zeros((4, 6)), layout, "<f4")
    with h5py.File(path, "a") as file:
        dataset = file["0/DATA/0/matrix"].id
        dataset.write_direct_chunk((0, 0), matrix[:2].tobytes(), filter_mask=0b11)
        packed = zlib.compress(matrix[2:].tobytes())
        dataset.write_direct_chunk((2, 0), packed, filter_mask=0b01)
    assert_array_equal(read_gctx(path, genes=[5, 0]).matrix, matrix[:, [5, 0]])
    assert_array_equal(read_gctx(path).matrix, matrix)


def test_damaged_chunk(tmp_path):
    layout = {"chunks": (4, 6), "compression": 1}
    path = write_plain(tmp_path / "x.gctx", np.zeros((4, 6)), layout)
    with h5py.File(path, "a") as file:
        dataset = file["0/DATA/0/matrix"].id
        dataset.write_direct_chunk((0, 0), b"not gzip")
    with pytest.raises(CorruptFileError, match=r"x\.gctx.*/matrix'.*Error -3"):
        read_gctx(path, genes=[5, 0])
    with h5py.File(path, "a") as file:
        dataset = file["0/DATA/0/matrix"].id
        dataset.write_direct_chunk((0, 0), zlib.compress(b"short"))
    with pytest.raises(CorruptFileError, match="a chunk has 5 bytes instead of 192"):
        read_gctx(path, genes=[5, 0])


def test_chunk_that_unpacks_to_more_than_it_should(tmp_path):
    path = write_plain(
        tmp_path / "x.gctx", np.zeros((2**9, 2**9)), {"compression": 9}, "<f4"
    )
    with h5py.File(path, "a") as file:
        dataset = file["0/DATA/0/matrix"].id
        bomb = zlib.compress(bytes(2**24), 9)
        dataset.write_direct_chunk((0, 0), bomb)
    for genes in (None, [5]):
        with pytest.raises(
            CorruptFileError, match=r"unpacks to more than [\d,]+ bytes"
        ):
            read_gctx(path, genes=genes)


@pytest.mark.parametrize("case", ["userblock", "compact"])
def test_values_that_are_not_one_plain_stretch_of_the_file(tmp_path, case):
    matrix = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    path = tmp_path / "x.gctx"
    write_plain(path, matrix, userblock_size=512 if case == "userblock" else 0)
    options = {}
    if case == "compact":
        options["dcpl"] = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options["dcpl"].set_layout(h5py.h5d.COMPACT)
    if case != "userblock":
        with h5py.File(path, "a") as file:
            del file["0/DATA/0/matrix"]
            dataset = file.create_dataset(
                "0/DATA/0/matrix", (3, 4), np.float32, fillvalue=7, **options
            )
            dataset[...] = matrix
    part = read_gctx(path, samples=[2, 0], genes=[3, 1])
    assert_array_equal(part.matrix, matrix[[2, 0]][:, [3, 1]])
    assert_array_equal(read_gctx(path).matrix, matrix)


def test_float64_on_request(tmp_path):
    matrix = np.random.default_rng(3).normal(size=(6, 5))
    path = write_plain(tmp_path / "x.gctx", matrix)
    assert_array_equal(read_gctx(path, dtype=np.float64).matrix, matrix)
    assert_array_equal(
        read_gctx(path, dtype="float64", genes=[2]).matrix, matrix[:, [2]]
    )
    assert_array_equal(read_gctx(path).matrix, matrix.astype(np.float32))


@pytest.mark.parametrize("chunks", ["auto", None, (1, 3000), (64, 64), (1500, 2)])
@pytest.mark.parametrize("everything", [True, False])
def test_memory_is_near_the_result(tmp_path, chunks, everything):
    matrix = np.random.default_rng(4).random((1500, 3000), dtype=np.float32)
    frames = [pd.DataFrame(index=[str(i) for i in range(n)]) for n in matrix.shape]
    path = tmp_path / "x.gctx"
    write_gctx(path, matrix, *frames, chunks=chunks)
    samples = None if everything else np.arange(1, 1500, 2)[::-1]
    genes = None if everything else np.arange(0, 3000, 2)[::-1]
    expected = matrix.nbytes if everything else matrix.nbytes // 4
    chunk_bytes = 2**20
    del matrix
    read_gctx(path, samples=[0], genes=[0])
    tracemalloc.start()
    data = read_gctx(path, samples=samples, genes=genes, chunk_bytes=chunk_bytes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.matrix.nbytes == expected
    assert peak < 1.3 * expected + chunk_bytes


# --------------------------------------------------------------- ways to ask for parts


@pytest.mark.parametrize(
    "samples",
    [
        ["plate:007", "plate:002"],
        np.array(["plate:007", "plate:002"]),
        pd.Index(["plate:007", "plate:002"]),
        [7, 2],
        (7, 2),
        np.array([7, 2], dtype=np.uint8),
        [-16, -21],
        slice(7, 1, -5),
    ],
)
def test_samples_in_the_order_asked(path, data, samples):
    part = read_gctx(path, samples=samples)
    assert_array_equal(part.matrix, data.matrix[[7, 2]])
    assert_frame_equal(part.obs, data.obs.iloc[[7, 2]])


def test_what_is_asked_for_twice_is_returned_twice(path, data):
    part = read_gctx(
        path, samples=["plate:004", "plate:001", "plate:004"], genes=[3, 3]
    )
    assert_array_equal(part.matrix, data.matrix[[4, 1, 4]][:, [3, 3]])
    assert_frame_equal(part.obs, data.obs.iloc[[4, 1, 4]])
    assert_frame_equal(part.genes, data.genes.iloc[[3, 3]])


def test_masks_and_callables(path, data):
    wanted = (data.obs["pert_id"] == "BRD-3").to_numpy()
    landmark = data.genes["is_landmark"].to_numpy() == 1
    part = read_gctx(
        path,
        samples=lambda obs: obs["pert_id"] == "BRD-3",
        genes=landmark,
    )
    assert_array_equal(part.matrix, data.matrix[wanted][:, landmark])
    assert_frame_equal(part.obs, data.obs[wanted])
    assert_frame_equal(part.genes, data.genes[landmark])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            ["plate:001", "x", "y"],
            r"samples asks for ids .* not in .*small\.gctx: 'x', 'y'",
        ),
        ([str(i) for i in range(30)], r"'18', '19' and 10 more\.$"),
        ([0, 23], r"samples asks for positions .* it has 23 .*: 23\.$"),
        ([-24], r": -24\.$"),
        ([True, False], r"mask for samples .* each of the 23 .* Got shape \(2,\)"),
        ("plate:001", r"samples must be None, a 1-D array-like .* Got 'plate:001'"),
        ([[0, 1]], r"samples must be None, a 1-D array-like"),
        ([0.5], r"samples must hold ids .* Got 0\.5"),
        ([None, "plate:001"], r"samples must hold ids .* Got None"),
        (slice("a", "b"), r"slice of samples must be of positions"),
        (lambda obs: [1, 2], r"callable samples must return a boolean mask.*int"),
        (lambda obs: [True], r"mask for samples .* Got shape \(1,\)"),
    ],
)
def test_bad_samples(path, samples, message):
    with pytest.raises(ValueError, match=message):
        read_gctx(path, samples=samples)


def test_repeated_ids_can_only_be_asked_for_by_position(tmp_path):
    path = write_plain(tmp_path / "x.gctx", np.arange(6.0).reshape(3, 2))
    with h5py.File(path, "a") as file:
        file["0/META/COL/id"][...] = np.array([b"a", b"b", b"a"])
    assert_array_equal(read_gctx(path, samples=[2]).matrix, [[4, 5]])
    with pytest.raises(ValueError, match=r"samples cannot .* by id, .*x\.gctx .*: 'a'"):
        read_gctx(path, samples=["b"])


# -------------------------------------------------------------------------- metadata


def metadata_frame():
    frame = pd.DataFrame(
        {
            "z_text": ["DMSO", "β-estradiol", "-666"],
            "a_missing": ["x", None, np.nan],
            "no_text": [None, None, None],
            "empty": ["", "", ""],
            "int": [1, -2, 3],
            "float": [0.5, np.nan, -666.0],
            "float32": np.array([1, 2, 3], dtype=np.float32),
            "bool": [True, False, True],
            "digits": ["007", "8", "9"],
            "mixed": ["a", 1, 2.5],
            "category": pd.Categorical(["u", "v", "u"]),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "full": pd.array([1, 2, 3], dtype="Int32"),
            "string": pd.array(["p", None, "q"], dtype="string"),
        }
    )
    return frame.set_index(text_index(["ä", "b", "c"]))


def test_metadata_come_back(tmp_path):
    frame = metadata_frame()
    genes = pd.DataFrame(index=["16"])
    write_gctx(tmp_path / "x.gctx", np.zeros((3, 1)), frame, genes)
    back = read_gctx(tmp_path / "x.gctx")
    expected = pd.DataFrame(
        {
            "z_text": frame["z_text"].astype(object),
            "a_missing": pd.Series(["x", np.nan, np.nan], frame.index, dtype=object),
            "no_text": np.full(3, np.nan, dtype=object),
            "empty": np.full(3, np.nan, dtype=object),
            "int": frame["int"],
            "float": frame["float"],
            "float32": frame["float32"],
            "bool": frame["bool"],
            "digits": frame["digits"].astype(object),
            "mixed": pd.Series(["a", "1", "2.5"], frame.index, dtype=object),
            "category": pd.Series(["u", "v", "u"], frame.index, dtype=object),
            "nullable": [1, np.nan, 3],
            "full": np.array([1, 2, 3], dtype=np.int32),
            "string": pd.Series(["p", np.nan, "q"], frame.index, dtype=object),
        },
        index=frame.index,
    )
    assert_frame_equal(back.obs, expected)
    assert_index_equal(back.genes.index, text_index(["16"]))
    assert back.genes.shape == (1, 0)
    part = read_gctx(tmp_path / "x.gctx", samples=["c", "ä"])
    assert_frame_equal(part.obs, expected.loc[["c", "ä"]])


def test_metadata_as_other_writers_store_them(tmp_path):
    path = write_plain(tmp_path / "x.gctx", np.zeros((3, 2)))
    with h5py.File(path, "a") as file:
        del file["0/META/COL/id"]
        file["0/META/COL/id"] = [11, 22, 33]
        padded = h5py.h5t.C_S1.copy()
        padded.set_size(6)
        padded.set_strpad(h5py.h5t.STR_SPACEPAD)
        space = h5py.h5s.create_simple((3,))
        node = h5py.h5d.create(file["0/META/COL"].id, b"padded", padded, space)
        node.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([b"ab", b"c d", b""]))
        file["0/META/COL/vlen"] = ["é", "", "long text"]
        file["0/META/COL/matlab"] = np.array([[1], [2], [3]], dtype=">i4")
        file["0/META/COL/latin"] = np.array(["µM".encode("latin-1"), b"h", b"um"])
        file["0/META/COL/pair"] = np.array(
            [(1, 2)] * 3, dtype=[("a", "i4"), ("b", "i4")]
        )
        file["0/META/COL/group/inner"] = [1]
    with pytest.warns(UserWarning, match=r"'/0/META/COL/latin' is not UTF-8"):
        obs = read_gctx(path).obs
    assert_array_equal(obs.index, ["11", "22", "33"])
    assert obs["padded"].tolist()[:2] == ["ab", "c d"]
    assert obs["vlen"].tolist()[::2] == ["é", "long text"]
    assert obs[["padded", "vlen"]].isna().to_numpy().tolist() == [
        [False, False],
        [False, True],
        [True, False],
    ]
    assert obs["matlab"].tolist() == [1, 2, 3]
    assert obs["matlab"].dtype == np.int32
    assert obs["latin"].tolist() == ["µM", "h", "um"]
    assert obs["pair"].tolist()[0].tolist() == (1, 2)
    assert "group" not in obs


# --------------------------------------------------------------------------- writing


@pytest.mark.parametrize(
    ("chunks", "compression"),
    [("auto", None), ("auto", 1), (None, None), ((3, 5), 9), ((1000, 1000), None)],
)
def test_written_is_read(tmp_path, data, chunks, compression):
    path = tmp_path / "x.gctx"
    write_gctx(path, data, compression=compression, chunks=chunks)
    back = read_gctx(path)
    assert_array_equal(back.matrix, data.matrix)
    assert_frame_equal(back.obs, data.obs)
    assert_frame_equal(back.genes, data.genes)
    assert_frame_equal(read_gctx(str(path), genes=[]).obs, data.obs)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int16, np.float32),
        (np.int64, np.float64),
        (bool, np.float32),
    ],
)
def test_stored_type_holds_every_value(tmp_path, dtype, stored):
    matrix = np.array([[0, 1]], dtype=dtype)
    frames = pd.DataFrame(index=["a"]), pd.DataFrame(index=["1", "2"])
    write_gctx(tmp_path / "x.gctx", matrix, *frames)
    with h5py.File(tmp_path / "x.gctx") as file:
        assert file["0/DATA/0/matrix"].dtype == stored
        assert_array_equal(file["0/DATA/0/matrix"], matrix)


def test_layout_is_the_one_that_other_readers_expect(tmp_path):
    """What cmapPy's parse_gctx looks for: nodes, attributes, one-dimensional fields."""
    obs = pd.DataFrame({"pert": ["DMSO", "BRD"], "dose": [0, 10]}, ["s1", "s2"])
    genes = pd.DataFrame({"symbol": ["A", None, "C"]}, ["16", "23", "25"])
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_gctx(tmp_path / "x.gctx", matrix, obs, genes)
    with h5py.File(tmp_path / "x.gctx") as file:
        assert file.attrs["version"] == b"GCTX1.0"
        assert file.attrs["src"] == "x.gctx"
        # cmapPy transposes what it reads: rows of the file's matrix are its columns.
        frame = pd.DataFrame(file["/0/DATA/0/matrix"][...].T)
        frame.index = file["/0/META/ROW/id"][...].astype("str")
        frame.columns = file["/0/META/COL/id"][...].astype("str")
        assert frame.loc["25", "s1"] == 2
        fields = {
            k: v[...].astype("str").tolist() for k, v in file["/0/META/COL"].items()
        }
        assert fields == {
            "id": ["s1", "s2"],
            "pert": ["DMSO", "BRD"],
            "dose": ["0", "10"],
        }
        assert file["/0/META/ROW/symbol"].dtype == np.dtype("S1")
        assert file["/0/META/COL/dose"].dtype == np.int64
        assert file["/0/META/COL/id"].compression == "gzip"
        assert file["/0/DATA/0/matrix"].chunks == (2, 3)


def test_default_chunks_follow_the_broad_institute(tmp_path):
    """At most 1000 genes and 1 MiB; cmapM's CPC006 plate has chunks of 268 x 978."""
    for n_genes, expected in ((978, (268, 978)), (3000, (262, 1000))):
        matrix = np.zeros((300, n_genes), dtype=np.float32)
        frames = [pd.DataFrame(index=[str(i) for i in range(n)]) for n in matrix.shape]
        write_gctx(tmp_path / "x.gctx", matrix, *frames)
        with h5py.File(tmp_path / "x.gctx") as file:
            assert file["0/DATA/0/matrix"].chunks == expected


def test_no_samples(tmp_path, data):
    empty = GctData(data.matrix[:0], data.obs[:0], data.genes)
    write_gctx(tmp_path / "x.gctx", empty, compression=4)
    back = read_gctx(tmp_path / "x.gctx")
    assert back.matrix.shape == (0, N_GENES)
    assert_frame_equal(back.genes, data.genes)
    assert back.obs.columns.tolist() == ["pert_id", "dose_um"]


def test_failed_write_leaves_the_earlier_file_and_no_other(path, data, monkeypatch):
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OSError, match="disk full"):
        write_gctx(path, data)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def frame(*ids, **columns):
    return pd.DataFrame(columns, index=list(ids))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((2, 2)),), {}, "obs and genes must be data frames"),
        ((make_data(), frame("a")), {}, "obs and genes must be None"),
        ((np.zeros((2, 2)), frame("a"), frame("1", "2")), {}, r"shape \(1, 2\)"),
        ((np.zeros(2), frame("a"), frame("1", "2")), {}, r"Got shape \(2,\)"),
        (
            (np.array([["x"]]), frame("a"), frame("1")),
            {},
            "data must hold real numbers",
        ),
        ((np.zeros((2, 1)), frame("a", "a"), frame("1")), {}, "index of obs .*: 'a'"),
        (
            (np.zeros((2, 1)), frame("a", ""), frame("1")),
            {},
            "index of obs .* every row",
        ),
        ((np.zeros((1, 1)), frame("a"), frame("1", **{"x/y": [1]})), {}, "Got 'x/y'"),
        ((np.zeros((1, 1)), frame("a", id=[1]), frame("1")), {}, "Got 'id' twice"),
        ((make_data(),), {"chunks": (0, 5)}, r"chunks must be .* Got \(0, 5\)"),
        ((make_data(),), {"chunks": (5,)}, r"chunks must be .* Got \(5,\)"),
        ((make_data(),), {"chunks": "all"}, "'chunks' parameter"),
        ((make_data(),), {"compression": 10}, "'compression' parameter"),
        (
            (make_data(),),
            {"compression": 4, "chunks": None},
            "compression must be None",
        ),
    ],
)
def test_bad_writing(tmp_path, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        write_gctx(tmp_path / "x.gctx", *arguments, **options)
    assert list(tmp_path.iterdir()) == []


def test_write_into_a_folder_that_is_not_there(tmp_path, data):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere"):
        write_gctx(tmp_path / "nowhere" / "x.gctx", data)


# ---------------------------------------------------------------------- what is wrong


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.gctx"):
        read_gctx(tmp_path / "none.gctx")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.gctx"):
        read_gctx(str(tmp_path / "none.gctx"))
    with pytest.raises(IsADirectoryError):
        read_gctx(tmp_path)


def test_not_hdf5(tmp_path):
    path = tmp_path / "text.gctx"
    path.write_text("#1.3\n")
    with pytest.raises(
        ValueError, match=r"text\.gctx cannot be read: it is no HDF5 file"
    ):
        read_gctx(path)


def test_truncated_hdf5(path):
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(
        CorruptFileError, match=r"small\.gctx cannot be read: .* it was cut"
    ):
        read_gctx(path)


@pytest.mark.parametrize("name", ["0/DATA/0/matrix", "0/META/ROW/id", "0/META/COL/id"])
@pytest.mark.parametrize("replaced", [True, False])
def test_hdf5_of_another_layout(path, name, replaced):
    with changing(path) as file:
        del file[name]
        if replaced:
            file.create_group(name)
    with pytest.raises(CorruptFileError, match=rf"small\.gctx.*'{name}'.*no GCTX file"):
        read_gctx(path)


def test_damaged_bytes_are_told(path):
    """Among them those of the fill value, which crashed the library."""
    whole = path.read_bytes()
    for at in range(0, len(whole), len(whole) // 150):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        with pytest.raises(CorruptFileError, match=r"small\.gctx cannot be read"):
            read_gctx(path)


def test_ids_in_another_file(tmp_path):
    path = write_plain(tmp_path / "x.gctx", np.zeros((2, 3)))
    with h5py.File(path, "a") as file:
        del file["0/META/COL/id"]
        file.create_dataset(
            "0/META/COL/id", (2,), "S20", external=[("/etc/passwd", 0, 40)]
        )
    with pytest.raises(CorruptFileError, match=r"COL/id': .* in another file"):
        read_gctx(path)


def test_more_than_the_file_can_hold(tmp_path):
    path = write_plain(tmp_path / "x.gctx", np.zeros((2, 3)))
    with h5py.File(path, "a") as file:
        for name, shape in (
            ("0/DATA/0/matrix", (10**6, 4000)),
            ("0/META/COL/id", (10**6,)),
            ("0/META/ROW/id", (4000,)),
        ):
            del file[name]
            file.create_dataset(name, shape, "f4", chunks=(100,) * len(shape))
    with pytest.raises(CorruptFileError, match="chunks, more than a file of"):
        read_gctx(path)


def test_metadata_of_another_length(path):
    with changing(path) as file:
        file["0/META/ROW/wrong"] = [1, 2]
    with pytest.raises(CorruptFileError, match=r"'/0/META/ROW/wrong': .* 37 entries"):
        read_gctx(path)


def test_matrix_of_another_shape_or_kind(tmp_path):
    path = write_plain(tmp_path / "x.gctx", np.zeros((3, 2)))
    with h5py.File(path, "a") as file:
        del file["0/DATA/0/matrix"]
        file["0/DATA/0/matrix"] = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"shape \(3, 2\).* Got shape \(2, 3\)"):
        read_gctx(path)
    with h5py.File(path, "a") as file:
        del file["0/DATA/0/matrix"]
        file["0/DATA/0/matrix"] = np.zeros((3, 2), dtype=complex)
    with pytest.raises(ValueError, match=r"real numbers\. Got dtype complex128"):
        read_gctx(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": np.int32}, r"dtype must be numpy\.float32 or numpy\.float64"),
        ({"chunk_bytes": 0}, "'chunk_bytes' parameter"),
        ({"progress": "yes"}, "'progress' parameter"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
    ],
)
def test_bad_options(path, options, message):
    with pytest.raises(ValueError, match=message):
        read_gctx(path, **options)


@pytest.mark.parametrize("layout", ["contiguous", "gzip", "lzf"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -666.0])
def test_values_that_are_none(tmp_path, layout, value):
    data = make_data()
    data.matrix[3, [1, 4]] = value
    data.matrix[20, 4] = value
    path = tmp_path / "holes.gctx"
    write_gctx(path, data)
    with changing(path) as file:
        del file["0/DATA/0/matrix"]
        file.create_dataset("0/DATA/0/matrix", data=data.matrix, **LAYOUTS[layout])
    absent = int(not np.isinf(value))
    samples = ", ".join(repr(name) for name in data.obs.index[[3, 20]])
    genes = ", ".join(repr(name) for name in data.genes.index[[1, 4]])
    message = (
        rf"holes\.gctx: of 851 values {3 * absent} are missing and {3 - 3 * absent} "
        rf"infinite, in 2 of 23 samples \({samples}\) and 2 of 37 genes \({genes}\)"
    )
    with pytest.raises(ValueError, match=message):
        read_gctx(path)
    # What is not asked for is not looked at.
    part = read_gctx(path, samples=[2, 4])
    assert_array_equal(part.matrix, data.matrix[[2, 4]])
    if np.isinf(value):
        with pytest.raises(ValueError, match=message):
            read_gctx(path, missing="nan")
    else:
        expected = data.matrix.copy()
        expected[[3, 3, 20], [1, 4, 4]] = np.nan
        assert_array_equal(read_gctx(path, missing="nan").matrix, expected)


def test_gct_data_must_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 1\)\. Got shape \(1, 2\)"):
        GctData(np.zeros((1, 2)), frame("a", "b"), frame("1"))


def test_progress_bar_only_where_asked(path, capsys):
    read_gctx(path)
    read_gctx(path, progress=False)
    assert capsys.readouterr().err == ""
    read_gctx(path, progress=True, genes=[3, 1])
    assert "Reading" in capsys.readouterr().err


# ------------------------------------------------------------------------- real files


def test_level5_sample(level5_folder):
    path = level5_folder / "level5_trt_cp_n2963x978.gctx"
    with h5py.File(path) as file:
        matrix = file["0/DATA/0/matrix"][...]
        ids = file["0/META/COL/id"].asstr()[...]
        genes = file["0/META/ROW/id"].asstr()[...]
    data = read_gctx(path)
    assert_array_equal(data.matrix, matrix)
    assert_array_equal(data.obs.index, ids)
    rng = np.random.default_rng(5)
    rows, columns = rng.permutation(2963)[:300], rng.permutation(978)[:100]
    part = read_gctx(path, samples=ids[rows], genes=genes[columns])
    assert_array_equal(part.matrix, matrix[np.ix_(rows, columns)])
    assert_array_equal(part.genes.index, genes[columns])


def test_plates_agree_with_their_text_files(level3_folder):
    """Levels 3 and 4 of one plate: other values and orders, the same wells."""
    pairs = [
        ("LJP005_A375_24H_X1_B19.level3.gct", "LJP005_A375_24H_X1_B19.level4.gctx"),
        ("CPC006_A375_6H_X1.level3.gct", "CPC006_A375_6H_X1.robust_z.gctx"),
    ]
    for text_name, hdf5_name in pairs:
        text = read_gct(level3_folder / text_name)
        obs = read_gctx(level3_folder / hdf5_name, genes=[]).obs
        shared = [
            name for name in obs if name in text.obs and not name.startswith("qc_")
        ]
        assert len(shared) > 10
        assert sorted(obs.index) == sorted(text.obs.index)
        data = read_gctx(
            level3_folder / hdf5_name, samples=text.obs.index, genes=text.genes.index
        )
        assert_index_equal(data.obs.index, text.obs.index)
        for name in {"cell_id", "pert_id", "pert_type", "rna_well"} & {*shared}:
            assert_array_equal(data.obs[name], text.obs[name])
        assert_array_equal(data.genes["pr_gene_id"], text.genes["pr_gene_id"])
        # A z-score says how a well stands in its plate: it follows the intensity.
        correlations = [
            np.corrcoef(a, b)[0, 1]
            for a, b in zip(text.matrix.T, data.matrix.T, strict=True)
        ]
        assert np.median(correlations) > 0.95
