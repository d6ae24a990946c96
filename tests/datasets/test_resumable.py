import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from tqdm.auto import tqdm

from sklearn_molge.datasets import fetch_lincs, list_lincs_files

NAMES = list_lincs_files("GSE70138", level=5)["name"].tolist()
SUMS, TABLE, PACKED = NAMES[0], NAMES[1], NAMES[-1]
MATRIX = PACKED.removesuffix(".gz")
WHOLE = {*NAMES[:-1], MATRIX, "verified.json"}


def names_in(folder):
    return {path.name for path in folder.iterdir()}


# --- broken connections


def test_broken_download_is_resumed(server, fetch):
    server.answers[PACKED] = [server.Answer(cut=100_000), server.Answer(cut=70_000)]
    folder = fetch()
    assert server.asked_for(PACKED) == [None, "bytes=100000-", "bytes=170000-"]
    validators = [v for name, _, v in server.seen if name == PACKED]
    assert validators == [None, *[server.tag(server.files[PACKED])] * 2]
    assert (folder / MATRIX).read_bytes() == server.content
    assert names_in(folder) == WHOLE


def test_retries_are_counted_only_without_a_new_byte(server, fetch):
    server.answers[PACKED] = [server.Answer(cut=50_000)] * 4
    fetch(n_retries=1)
    assert server.asked_for(PACKED)[-1] == "bytes=200000-"


def test_no_file_under_its_name_after_giving_up_then_resumed(server, fetch, folder):
    server.answers[PACKED] = [server.Answer(cut=100_000), server.Answer(status=503)]
    with pytest.raises(ConnectionError, match="100,000 bytes are kept in") as error:
        fetch(n_retries=1)
    for part in (PACKED, server.url, "503", "n_retries=1", f"{PACKED}.part"):
        assert part in str(error.value)
    assert not {PACKED, MATRIX} & names_in(folder)
    assert (folder / f"{PACKED}.part").read_bytes() == server.files[PACKED][:100_000]
    server.seen.clear()
    fetch()
    assert server.seen == [(PACKED, "bytes=100000-", server.tag(server.files[PACKED]))]
    assert (folder / MATRIX).read_bytes() == server.content
    assert names_in(folder) == WHOLE


def test_server_that_ignores_ranges(server, fetch):
    server.answers[PACKED] = [
        server.Answer(cut=100_000),
        server.Answer(ignore_range=True),
    ]
    folder = fetch()
    assert server.asked_for(PACKED) == [None, "bytes=100000-"]
    assert (folder / MATRIX).read_bytes() == server.content


def test_server_that_ignores_ranges_and_always_breaks_is_given_up(server, fetch):
    server.answers[PACKED] = [server.Answer(cut=9_000, ignore_range=True)] * 20
    with pytest.raises(ConnectionError, match="9,000 bytes"):
        fetch(n_retries=2)
    assert len(server.asked_for(PACKED)) == 3


@pytest.mark.parametrize("ignore_if_range", [False, True])
def test_changed_file_is_not_stitched(server, fetch, ignore_if_range):
    old = gzip.compress(server.content[::-1], mtime=0)
    server.answers[PACKED] = [
        server.Answer(body=old, cut=100_000),
        server.Answer(ignore_if_range=ignore_if_range),
    ]
    folder = fetch()
    assert server.asked_for(PACKED)[:2] == [None, "bytes=100000-"]
    assert server.asked_for(PACKED)[2:] == ([None] if ignore_if_range else [])
    assert (folder / MATRIX).read_bytes() == server.content


def test_answer_that_starts_elsewhere_is_not_stitched(server, fetch):
    server.answers[PACKED] = [server.Answer(cut=100_000), server.Answer(shift=9)]
    folder = fetch()
    assert server.asked_for(PACKED) == [None, "bytes=100000-", None]
    assert (folder / MATRIX).read_bytes() == server.content


def test_server_that_gives_only_a_piece_of_the_rest(server, fetch):
    server.answers[PACKED] = [
        server.Answer(cut=100_000),
        server.Answer(at_most=50_000),
    ]
    folder = fetch()
    assert server.asked_for(PACKED) == [None, "bytes=100000-", "bytes=150000-"]
    assert (folder / MATRIX).read_bytes() == server.content


def test_server_that_packs_what_it_sends(server, fetch):
    server.answers[TABLE] = [server.Answer(may_pack=True)]
    folder = fetch()
    assert (folder / TABLE).read_bytes() == server.files[TABLE]


def test_without_a_validator_nothing_is_stitched(server, fetch):
    server.answers[PACKED] = [server.Answer(cut=100_000, etag=None)]
    fetch()
    assert server.asked_for(PACKED) == [None, None]


def test_weak_etag_gives_way_to_the_date(server, fetch):
    date = "Mon, 06 Mar 2017 00:00:00 GMT"
    weak = {"etag": 'W/"1"', "headers": {"Last-Modified": date}}
    server.answers[PACKED] = [
        server.Answer(cut=100_000, **weak),
        server.Answer(ignore_if_range=True, **weak),
    ]
    folder = fetch()
    assert server.seen[-1] == (PACKED, "bytes=100000-", date)
    assert (folder / MATRIX).read_bytes() == server.content


def test_longer_part_than_the_file_is_thrown_away(server, fetch, folder):
    body = server.files[PACKED]
    state = {"total": len(body) + 9, "validator": server.tag(body), "md5": None}
    (folder / f"{PACKED}.part").write_bytes(bytes(len(body) + 5))
    (folder / f"{PACKED}.part.json").write_text(json.dumps(state))
    fetch()
    assert server.asked_for(PACKED) == [f"bytes={len(body) + 5}-", None]
    assert (folder / MATRIX).read_bytes() == server.content


def test_whole_part_is_checked_without_asking_again(server, fetch, folder):
    body = server.files[PACKED]
    state = {"total": len(body), "validator": None, "md5": None}
    (folder / f"{PACKED}.part").write_bytes(body)
    (folder / f"{PACKED}.part.json").write_text(json.dumps(state))
    fetch()
    assert server.asked_for(PACKED) == []
    assert names_in(folder) == WHOLE


def test_part_without_a_note_is_not_trusted(server, fetch, folder):
    (folder / f"{PACKED}.part").write_bytes(server.files[PACKED][:1000])
    fetch()
    assert server.asked_for(PACKED) == [None]
    assert (folder / MATRIX).read_bytes() == server.content


def test_waits_double(server, fetch, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.answers[SUMS] = [server.Answer(status=500)] * 8
    with pytest.raises(ConnectionError, match="Nothing was downloaded"):
        fetch(n_retries=7, delay=1.0)
    assert waits == [1, 2, 4, 8, 16, 32, 60]


def test_interrupt_keeps_what_came(server, fetch, folder, monkeypatch):
    update = tqdm.update

    def interrupting(bar, n):
        update(bar, n)
        if PACKED in bar.desc and bar.n == 2 * 2**16:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tqdm, "update", interrupting)
        with pytest.raises(KeyboardInterrupt):
            fetch(progress=True)
    kept = (folder / f"{PACKED}.part").stat().st_size
    assert kept == 2 * 2**16
    assert names_in(folder) == {
        *NAMES[:-1],
        "verified.json",
        f"{PACKED}.part",
        f"{PACKED}.part.json",
    }
    fetch()
    assert server.asked_for(PACKED) == [None, f"bytes={kept}-"]
    assert names_in(folder) == WHOLE


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_process_is_resumed(server, fetch, folder, tmp_path):
    stall = threading.Event()
    server.answers[PACKED] = [server.Answer(cut=200_000, stall=stall)]
    code = (
        "from sklearn_molge.datasets import fetch_lincs\n"
        f"fetch_lincs('GSE70138', data_home={str(tmp_path)!r}, "
        f"base_url={server.url!r}, progress=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    part = folder / f"{PACKED}.part"
    try:
        while not (part.exists() and part.stat().st_size >= 2 * 2**16):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        stall.set()
    assert process.returncode == -signal.SIGKILL
    assert not {PACKED, MATRIX} & names_in(folder)
    kept = part.stat().st_size
    server.seen.clear()
    fetch()
    assert server.seen == [(PACKED, f"bytes={kept}-", server.tag(server.files[PACKED]))]
    assert (folder / MATRIX).read_bytes() == server.content
    assert names_in(folder) == WHOLE


# --- servers that say no, or are not there


def test_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionError, match="call again once") as error:
        fetch_lincs("GSE70138", data_home=tmp_path, base_url=url, delay=0, n_retries=1)
    assert f"{SUMS} could not be downloaded from {url}/{SUMS}" in str(error.value)
    assert names_in(tmp_path / "lincs" / "GSE70138") == set()


def test_passing_faults_are_tried_again(server, fetch):
    server.answers[TABLE] = [server.Answer(status=503), server.Answer(status=429)]
    fetch()
    assert len(server.asked_for(TABLE)) == 3


@pytest.mark.parametrize("status", [403, 404])
def test_final_faults_are_not_tried_again(server, fetch, folder, status):
    server.answers[TABLE] = [server.Answer(status=status)]
    with pytest.raises(OSError, match=f"the server answered {status}") as error:
        fetch()
    assert not isinstance(error.value, ConnectionError)
    assert TABLE in str(error.value)
    assert "under its public name" in str(error.value)
    assert len(server.asked_for(TABLE)) == 1
    assert names_in(folder) == {SUMS, "verified.json"}


def test_more_bytes_announced_than_sent(server, fetch, folder):
    body = server.files[TABLE]
    claim = server.Answer(claim=len(body) + 7, cut=len(body))
    server.answers[TABLE] = [claim, server.Answer(status=500)]
    with pytest.raises(ConnectionError, match=f"{len(body)} bytes are kept"):
        fetch(n_retries=1)
    assert TABLE not in names_in(folder)


def test_fewer_bytes_announced_than_sent(server, fetch):
    short = len(server.files[PACKED]) - 7
    server.answers[PACKED] = [server.Answer(claim=short)]
    with pytest.warns(UserWarning, match="downloaded once more"):
        folder = fetch()
    assert (folder / MATRIX).read_bytes() == server.content


def test_length_that_is_not_told(server, fetch):
    server.answers[PACKED] = [server.Answer(headers={"Content-Length": None})]
    assert (fetch() / MATRIX).read_bytes() == server.content


# --- what lies beside the bytes, and what a server may say


NOTES = {
    "not JSON": "{",
    "a list": "[]",
    "deep": "[" * 100_000,
    "nothing": "{}",
    "total": '{"total": "9", "validator": null, "md5": null}',
    "less than none": '{"total": -1, "validator": null, "md5": null}',
    "a header more": '{"total": 9, "validator": "a\\r\\nHost: b", "md5": null}',
    "md5": '{"total": 9, "validator": null, "md5": "../../x"}',
}


@pytest.mark.parametrize("note", NOTES)
def test_a_damaged_note_is_told_and_not_built_upon(server, fetch, folder, note):
    (folder / f"{PACKED}.part").write_bytes(b"123456789")
    (folder / f"{PACKED}.part.json").write_text(NOTES[note])
    with pytest.warns(UserWarning, match=rf"{PACKED}\.part\.json, .* is damaged"):
        fetch()
    assert server.asked_for(PACKED) == [None]
    assert (folder / MATRIX).read_bytes() == server.content
    assert names_in(folder) == WHOLE


def test_a_server_that_announces_more_than_fits(server, fetch, folder):
    server.answers[PACKED] = [server.Answer(claim=10**17)]
    with pytest.raises(OSError, match=f"{PACKED} has 100,.* room for .* in {folder}"):
        fetch()
    assert not {PACKED, MATRIX, f"{PACKED}.part"} & names_in(folder)


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://localhost/x", "//:x"])
def test_a_redirection_to_another_scheme(server, fetch, folder, where):
    redirect = {"status": 302, "headers": {"Location": where}}
    server.answers[TABLE] = [server.Answer(**redirect) for _ in range(2)]
    with pytest.raises(OSError, match=TABLE):
        fetch(n_retries=1)
    assert names_in(folder) == {SUMS, "verified.json"}
