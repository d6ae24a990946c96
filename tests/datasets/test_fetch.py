import gzip
import hashlib
import json
import os
import sys

import numpy as np
import pytest

from sklearn_molge.datasets import fetch_lincs, list_lincs_files, load_lincs
from sklearn_molge.exceptions import CorruptFileError

NAMES = list_lincs_files("GSE70138", level=5)["name"].tolist()
SUMS, TABLE, PACKED = NAMES[0], NAMES[1], NAMES[-1]
MATRIX = PACKED.removesuffix(".gz")
WHOLE = {*NAMES[:-1], MATRIX, "verified.json"}
CONTROLS_2020 = "level3_beta_ctl_n188708x12328.gctx"


def names_in(folder):
    return {path.name for path in folder.iterdir()}


# --- a download without trouble


def test_fetch_brings_every_file_in_order_and_unpacks_the_matrix(server, fetch):
    folder = fetch()
    assert [name for name, _, _ in server.seen] == NAMES
    assert names_in(folder) == WHOLE
    assert (folder / MATRIX).read_bytes() == server.content
    for name in NAMES[:-1]:
        assert (folder / name).read_bytes() == server.files[name]
    record = json.loads((folder / "verified.json").read_text())
    digest = hashlib.sha512(server.files[PACKED]).hexdigest()
    assert record[MATRIX] == {"size": len(server.content), "check": f"sha512:{digest}"}


def test_second_call_asks_for_nothing(server, fetch):
    fetch()
    server.seen.clear()
    fetch()
    assert server.seen == []


def test_other_level_takes_only_what_is_missing(server, fetch):
    wells, level3 = list_lincs_files("GSE70138", level=3)["name"].iloc[-2:]
    server.files |= {wells: gzip.compress(b"wells"), level3: gzip.compress(b"3")}
    server.publish_sums(name for name in server.files if name != SUMS)
    fetch()
    server.seen.clear()
    folder = fetch(level=3)
    assert [name for name, _, _ in server.seen] == [wells, level3]
    assert names_in(folder) == {*WHOLE, wells, level3.removesuffix(".gz")}


def test_data_home_of_scikit_learn_is_the_default(fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    assert fetch(data_home=None) == tmp_path / "home" / "lincs" / "GSE70138"


def test_progress_bars(fetch, capsys):
    fetch(progress=True)
    shown = capsys.readouterr().err
    assert f"{TABLE}: 100%" in shown
    assert f"unpacking {PACKED}: 100%" in shown


# --- checksums


def test_corrupt_file_is_downloaded_once_more(server, fetch):
    server.answers[PACKED] = [server.Answer(body=server.corrupt(server.files[PACKED]))]
    with pytest.warns(UserWarning, match=f"{PACKED} came corrupt from"):
        folder = fetch()
    assert server.asked_for(PACKED) == [None, None]
    assert (folder / MATRIX).read_bytes() == server.content
    assert names_in(folder) == WHOLE


def test_file_that_came_corrupt_twice(server, fetch, folder):
    expected = hashlib.sha512(server.files[PACKED]).hexdigest()
    server.files[PACKED] = server.corrupt(server.files[PACKED])
    found = hashlib.sha512(server.files[PACKED]).hexdigest()
    message = f"expected sha512 {expected}, found {found}"
    with (
        pytest.warns(UserWarning, match="downloaded once more"),
        pytest.raises(OSError, match=f"{PACKED} came corrupt twice.*{message}"),
    ):
        fetch()
    assert len(server.asked_for(PACKED)) == 2
    assert names_in(folder) == {*NAMES[:-1], "verified.json"}


def test_corrupt_start_of_a_resumed_file_is_noticed(server, fetch, folder):
    body = server.files[PACKED]
    server.answers[PACKED] = [
        server.Answer(body=server.corrupt(body), cut=100_000, etag=server.tag(body)),
    ]
    with pytest.warns(UserWarning, match="downloaded once more"):
        fetch()
    assert server.asked_for(PACKED) == [None, "bytes=100000-", None]
    assert (folder / MATRIX).read_bytes() == server.content


@pytest.mark.parametrize(
    "rubbish",
    [
        b"<html>log in</html>",
        gzip.compress(b"<html>", mtime=0),
        gzip.compress(b"x" * 999, mtime=0)[:20],
    ],
    ids=["a web page", "a packed one", "cut off"],  # the bytes hold the time of day
)
def test_list_of_checksums_that_is_none(server, fetch, folder, rubbish):
    server.answers[SUMS] = [server.Answer(body=rubbish)]
    with pytest.raises(OSError, match=r"not a packed list of SHA-512 sums.*call again"):
        fetch()
    assert [name for name, _, _ in server.seen] == [SUMS]
    assert SUMS not in names_in(folder)
    fetch()
    assert names_in(folder) == WHOLE


def test_starred_names_in_the_list_of_checksums(server, fetch):
    lines = gzip.decompress(server.files[SUMS]).replace(b"  ", b" *").upper()
    for name in NAMES:
        lines = lines.replace(name.upper().encode(), name.encode())
    server.files[SUMS] = gzip.compress(lines)
    server.files[TABLE] += b"?"
    with (
        pytest.warns(UserWarning, match="downloaded once more"),
        pytest.raises(OSError, match=f"{TABLE} came corrupt twice"),
    ):
        fetch()


def test_file_that_the_list_does_not_name(server, fetch):
    server.publish_sums(NAMES[2:])
    with pytest.warns(
        UserWarning,
        match=f"No checksum.*{TABLE} \\(only its length was compared\\)\\.",
    ):
        fetch()


def test_without_verify_no_list_is_fetched_and_nothing_compared(server, fetch):
    server.files[TABLE] += b"?"
    folder = fetch(verify=False)
    assert [name for name, _, _ in server.seen] == NAMES[1:]
    assert (folder / TABLE).read_bytes() == server.files[TABLE]


def test_file_fetched_without_verify_is_checked_by_a_later_call(server, fetch):
    good = server.files[TABLE]
    server.files[TABLE] = server.corrupt(good + bytes(50))
    folder = fetch(verify=False)
    server.files[TABLE] = good
    server.seen.clear()
    with (
        pytest.warns(UserWarning, match=f"{TABLE} should have sha512:.*again"),
        pytest.warns(UserWarning, match=f"{MATRIX} .it was there already"),
    ):
        fetch()
    assert [name for name, _, _ in server.seen] == [SUMS, TABLE]
    assert (folder / TABLE).read_bytes() == good


# --- releases without a list of checksums


def test_without_checksum_the_length_is_all(server, fetch, one_2020_file):
    with pytest.warns(UserWarning, match=f"{CONTROLS_2020}.*only its length"):
        folder = fetch("LINCS2020", level=3)
    assert (folder / CONTROLS_2020).read_bytes() == server.content


def test_address_below_the_folder_of_the_level(server, fetch, one_2020_file):
    with pytest.warns(UserWarning, match="only its length"):
        fetch("LINCS2020", level=3)
    assert server.paths == [f"/suppl/level3/{CONTROLS_2020}"]


def test_etag_of_s3_is_the_md5(server, fetch, one_2020_file):
    server.software = "AmazonS3"
    etag = f'"{hashlib.md5(server.content).hexdigest()}"'
    server.answers[CONTROLS_2020] = [
        server.Answer(etag=etag, cut=1000),
        server.Answer(etag=etag, ignore_if_range=True),
    ]
    with pytest.warns(UserWarning, match=f"{CONTROLS_2020}.*ETag agreed"):
        folder = fetch("LINCS2020", level=3)
    assert server.asked_for(CONTROLS_2020) == [None, "bytes=1000-"]
    assert (folder / CONTROLS_2020).read_bytes() == server.content


def test_etag_of_s3_that_disagrees(server, fetch, one_2020_file):
    server.software = "AmazonS3"
    etag = f'"{hashlib.md5(server.content).hexdigest()}"'
    server.answers[CONTROLS_2020] = [
        server.Answer(etag=etag, body=server.corrupt(server.content))
    ] * 2
    with (
        pytest.warns(UserWarning, match="downloaded once more"),
        pytest.raises(OSError, match=f"expected md5 {etag[1:-1]}"),
    ):
        fetch("LINCS2020", level=3)


@pytest.mark.parametrize(
    ("software", "etag", "headers"),
    [
        ("nginx", f'"{"0" * 32}"', {}),
        ("AmazonS3", f'"{"0" * 32}-17"', {}),
        ("AmazonS3", f'"{"0" * 32}"', {"x-amz-server-side-encryption": "aws:kms"}),
    ],
)
def test_etag_that_is_no_md5(server, fetch, one_2020_file, software, etag, headers):
    server.software = software
    server.answers[CONTROLS_2020] = [server.Answer(etag=etag, headers=headers)]
    with pytest.warns(UserWarning, match="only its length was compared"):
        fetch("LINCS2020", level=3)


def test_md5_of_the_download_page(server, fetch, one_2020_file):
    one_2020_file(md5=hashlib.md5(server.content).hexdigest())
    server.answers[CONTROLS_2020] = [server.Answer(body=server.corrupt(server.content))]
    with pytest.warns(UserWarning, match="came corrupt.*expected md5") as caught:
        folder = fetch("LINCS2020", level=3)
    assert len(caught) == 1
    assert (folder / CONTROLS_2020).read_bytes() == server.content


# --- files that are there already


def test_file_put_there_by_hand_is_checked_and_used(server, fetch, folder):
    (folder / TABLE).write_bytes(server.files[TABLE])
    (folder / PACKED).write_bytes(server.files[PACKED])
    fetch()
    assert [name for name, _, _ in server.seen] == [SUMS, *NAMES[2:-1]]
    assert names_in(folder) == WHOLE
    assert (folder / MATRIX).read_bytes() == server.content


def test_wrong_file_put_there_by_hand_is_replaced(server, fetch, folder):
    (folder / TABLE).write_bytes(b"half a fi")
    with pytest.warns(UserWarning, match=f"{TABLE} should have sha512:.*again"):
        fetch()
    assert (folder / TABLE).read_bytes() == server.files[TABLE]


def test_unpacked_matrix_put_there_by_hand_cannot_be_checked(server, fetch, folder):
    (folder / MATRIX).write_bytes(server.content)
    with pytest.warns(UserWarning, match=f"No checksum.*{MATRIX} .it was there"):
        fetch()
    assert server.asked_for(PACKED) == []


def test_file_that_shrank_is_replaced(server, fetch, folder):
    fetch()
    (folder / MATRIX).write_bytes(server.content[:-1])
    with pytest.warns(UserWarning, match=f"{MATRIX} is not of .* bytes any more"):
        fetch()
    assert (folder / MATRIX).read_bytes() == server.content


# --- unpacking


def test_unpacking_that_was_killed_is_done_again(server, fetch, folder):
    fetch()
    (folder / MATRIX).rename(folder / f".{MATRIX}.{0:032x}.part")
    (folder / PACKED).write_bytes(server.files[PACKED])
    server.seen.clear()
    fetch()
    assert server.seen == []
    assert names_in(folder) == WHOLE


def test_matrix_that_cannot_be_unpacked(server, fetch, folder):
    server.files[PACKED] = server.files[PACKED][:-20]
    with pytest.raises(OSError, match=f"{PACKED} could not be unpacked.*deleted"):
        fetch(verify=False)
    assert not [name for name in names_in(folder) if MATRIX in name]


def test_a_packed_bomb(server, fetch, folder):
    server.files[PACKED] = gzip.compress(bytes(100 << 20), mtime=0)
    with pytest.raises(OSError, match=f"{PACKED} could not .*more than 50 times"):
        fetch(verify=False)
    assert not [name for name in names_in(folder) if MATRIX in name]


def test_a_list_of_checksums_that_is_a_bomb(server, fetch, folder):
    server.answers[SUMS] = [server.Answer(body=gzip.compress(b"a" * (50 << 20)))]
    with pytest.raises(OSError, match="not a packed list of SHA-512 sums"):
        fetch()
    assert SUMS not in names_in(folder)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[1]",
        '{"a": 1}',
        '{"a": {"size": "1", "check": "none"}}',
        "[" * 99999,
    ],
    ids=range(6),
)
def test_a_damaged_record_is_named(server, fetch, folder, text):
    fetch()
    (folder / "verified.json").write_text(text)
    with pytest.raises(CorruptFileError, match=r"verified\.json cannot be read"):
        fetch()


def test_a_kill_between_a_name_and_its_note(server, fetch, folder):
    fetch()
    (folder / MATRIX).unlink()
    (folder / PACKED).write_bytes(server.files[PACKED])
    (folder / f"{PACKED}.part.json").write_text("{}")
    server.seen.clear()
    fetch()
    (folder / PACKED).write_bytes(server.files[PACKED])
    (folder / f"{TABLE}.part.json").write_text("{}")
    fetch()
    assert server.seen == []
    assert names_in(folder) == WHOLE


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_two_do_not_fetch_into_one_folder(fetch, folder):
    fcntl = pytest.importorskip("fcntl")
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another process") as error:
            fetch()
    finally:
        os.close(handle)
    assert error.value.filename == str(folder)
    assert names_in(fetch()) == WHOLE


# --- what is fetched can be loaded


def test_fetched_folder_is_loaded(server, fetch, change_2020, level5_folder):
    real = {
        "cellinfo_beta.txt": b"cell_iname\nA375\n",
        "geneinfo_beta.txt": (level5_folder / "geneinfo.txt").read_bytes(),
        "compoundinfo_beta.txt": (level5_folder / "compoundinfo.txt").read_bytes(),
        "siginfo_beta.txt": (level5_folder / "siginfo.txt").read_bytes(),
        "level5_beta_trt_cp_n720216x12328.gctx": (
            level5_folder / "level5_trt_cp_n2963x978.gctx"
        ).read_bytes(),
    }
    change_2020({n: {"md5": hashlib.md5(real[n]).hexdigest()} for n in real})
    server.files = real
    fetched = load_lincs(fetch("LINCS2020", level=5), level=5)
    original = load_lincs(level5_folder, level=5)
    np.testing.assert_array_equal(fetched.ge, original.ge)
    np.testing.assert_array_equal(fetched.smiles, original.smiles)


# --- parameters


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"release": "GSE1"}, "'release' parameter of fetch_lincs must be a str among"),
        ({"level": 2}, r"'level' .* must be an int in the range \[3, 5\]. Got 2"),
        ({"n_retries": -1}, "'n_retries' .* Got -1"),
        ({"delay": -0.5}, "'delay' .* Got -0.5"),
    ],
)
def test_invalid_parameters(server, fetch, tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        fetch(**bad)
    assert server.seen == []
    assert list(tmp_path.iterdir()) == []


def test_address_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match=r"base_url must start with .* Got 'ftp://x'"):
        fetch_lincs("GSE70138", data_home=tmp_path, base_url="ftp://x")
    assert list(tmp_path.iterdir()) == []


def test_missing_extra(fetch, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'needs pooch: pip install "sklearn-molge\['):
        fetch()
