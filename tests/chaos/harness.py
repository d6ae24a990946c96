"""What every operation that writes has in common, and the processes that are killed.

An operation is run in a fork of a process that has imported all it needs, so that a
kill costs what the operation does. Half of the kills come at an exact point: before the
n-th call that opens, syncs, renames or removes a file, or the n-th statement of SQLite;
the others at a random time of the measured duration. Then the operation is repeated,
and its result compared with that of one that nobody stopped.
"""

import os
import pickle
import resource
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter

import numpy as np
import tqdm

# Its own lock is shared by forks, and one that is killed may hold it.
tqdm.tqdm.set_lock(threading.RLock())
tqdm.tqdm.monitor_interval = 0
SECONDS = 120.0  # for one run; each takes less than three
# Of Python, h5py's writers, faiss and SQLite: what changes a folder.
EVENTS = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate", "os.chmod"}


class Operation:
    """Something that writes: what :file:`write_*.py` holds one or more of."""

    name = ""
    is_warmed = True  # run once by the process that forks: what it imports is there

    def prepare(self, folder):
        """Make what the operation needs; `folder` is empty and its own."""

    def start(self, folder):
        """Put into an empty folder what is there before the operation."""

    def run(self, folder):
        """Do it: the call that is killed, and repeated."""
        raise NotImplementedError

    def result(self, folder):
        """Read all of it by public calls: lists, dicts, arrays and numbers."""
        raise NotImplementedError

    def look(self, folder):
        """Read what a kill left; raise where it is neither the old nor the new."""
        if any(path.is_file() for path in self.finals(folder)):
            found = self.result(folder)
            states = (self.before, self.expected)
            assert any(same(found, state) for state in states), "a third state"
        else:
            assert self.before is None, "the old file is gone"

    def keep(self, answer):
        """Keep what `run` answers, elsewhere than on the disk that is tried."""
        np.save(self.own / "answer.npy", answer)

    def kept(self):
        """Return it, once."""
        path = self.own / "answer.npy"
        answer = np.load(path)
        path.unlink()
        return [answer]

    def finals(self, folder):
        """Return the files that are whole or not there."""
        return [path for path in folder.rglob("*") if not is_left_over(path)]

    def is_clear(self, folder, error):
        """Whether an error on a full disk, or beside another writer, names its file."""
        return isinstance(error, OSError) and str(folder) in str(error)


def same(a, b):
    """Whether two trees of lists, dicts, arrays and numbers are equal, NaN included."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if a is None or b is None:
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return False
    return bool(np.all((a == b) | ((a != a) & (b != b))))


def is_left_over(path):
    """Whether a file is one that nobody will use again."""
    return path.name.endswith(
        (".part", ".part.json", "-journal")
    ) or path.name.startswith("tmp")


# Processes


def forked(function, *, before=lambda: None):
    """Call a function in a fork; return its process and the end of a pipe."""
    mine, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        os.close(theirs)
        return process, mine
    status = 1
    try:
        os.close(mine)
        os.setpgid(0, 0)
        warnings.simplefilter("ignore")
        before()
        try:
            answer = "done", function()
        except BaseException as error:
            trace = traceback.format_exc()
            answer = "error", (type(error).__mro__[0].__name__, error_of(error), trace)
        with os.fdopen(theirs, "wb") as out:
            pickle.dump(answer, out)
        status = 0
    finally:
        os._exit(status)


def error_of(error):
    """Return an error as it is, or its text where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def answer_of(process, pipe):
    """Return ("done", answer), ("error", ...) or ("killed", signal)."""
    data, end = b"", time.monotonic() + SECONDS
    with os.fdopen(pipe, "rb", buffering=0) as file:
        while select.select([file], [], [], max(end - time.monotonic(), 0))[0]:
            if not (chunk := file.read(1 << 20)):
                break
            data += chunk
        else:
            kill_all(process)
            os.waitpid(process, 0)
            error = RuntimeError(f"hangs for more than {SECONDS:g} s")
            return "error", ("hang", error, str(error))
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return "killed", -code
    if not data:
        return "error", ("exit", RuntimeError(f"ended with {code}"), "")
    return pickle.loads(data)


def call(function, **options):
    """Call a function in a fork and wait for what it says."""
    return answer_of(*forked(function, **options))


def at_points(folder, reached):
    """Call `reached` before each step by which this process changes the folder."""
    folder = os.fsencode(folder)

    def hook(event, args):
        if event == "open" and args[0] is not None and not isinstance(args[0], int):
            writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and os.fsencode(args[0]).startswith(folder):
                reached()
        elif event in EVENTS:
            if folder in os.fsencode(str(args[0])):
                reached()

    fsync, connect = os.fsync, sqlite3.connect

    def counted_fsync(handle):
        reached()
        fsync(handle)

    def traced_connect(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.set_trace_callback(lambda statement: reached())
        return connection

    os.fsync, sqlite3.connect = counted_fsync, traced_connect
    sys.addaudithook(hook)


# Kills


class Trials:
    """The kills of one operation, and what became of them."""

    def __init__(self, operation, folder):
        self.operation, self.folder = operation, folder
        self.work, own = folder / "work", folder / "own"
        self.counts, self.bad = Counter(), []
        own.mkdir(parents=True)
        operation.before, operation.own = None, own
        operation.prepare(own)
        if operation.is_warmed:
            self.fresh(self.work)
            operation.run(self.work)
            operation.result(self.work)
        self._measure()

    def _measure(self):
        operation, work = self.operation, self.work
        self.fresh(work)
        if any(work.iterdir()):
            kind, operation.before = call(lambda: operation.result(work))
            assert kind == "done", operation.before
        n_points = [0]

        def count():
            n_points[0] += 1

        def run():
            began = time.perf_counter()
            operation.run(work)
            return time.perf_counter() - began, n_points[0], operation.result(work)

        kind, found = call(run, before=lambda: at_points(work, count))
        assert kind == "done", found
        self.seconds, self.n_points, operation.expected = found
        # Without the hook, and what is computed but once.
        self.fresh(work)
        kind, found = call(run)
        assert kind == "done", found
        self.seconds = found[0]
        assert same(found[2], operation.expected), "two runs differ"

    def fresh(self, work):
        """Make the folder as it is before the operation."""
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        self.operation.start(work)

    def kill(self, rng):
        """Kill it once, look, repeat it, and compare."""
        work, operation = self.work, self.operation
        self.fresh(work)
        if rng.random() < 0.5 and self.n_points:
            where = f"point {(n := int(rng.integers(self.n_points)) + 1)}"
            process, pipe = forked(
                lambda: operation.run(work), before=lambda: die_at(work, n)
            )
        else:
            moment = rng.uniform(0, 1.05) * self.seconds
            where = f"{moment:.4f} s"
            process, pipe = forked(lambda: operation.run(work))
            time.sleep(moment)
            kill_all(process)
        kind, found = answer_of(process, pipe)
        kill_all(process)
        if kind == "done":
            self.counts["too late"] += 1
            return
        if kind == "error":
            self._note("unclear errors", where, found[2])
            return
        self.counts["kills"] += 1
        kind, found = call(lambda: operation.look(work))
        if kind != "done":
            self._note("half files", where, found[2] if kind == "error" else kind)
        self.repeat(where)

    def repeat(self, where, *, is_done=False):
        """Run it to its end, and compare with the result of one that nobody stopped."""
        operation, work = self.operation, self.work

        def again():
            if not is_done:
                operation.run(work)
            return operation.result(work)

        kind, found = call(again)
        if kind != "done":
            self._note("unclear errors", where, found[2] if kind == "error" else kind)
        elif same(found, operation.expected):
            self.counts["resumed equal"] += 1
        else:
            self._note("another result", where, "")
        left = [p.name for p in work.rglob("*") if is_left_over(p)]
        if left:
            self._note("drafts left", where, str(left))

    def _note(self, what, where, text):
        self.counts[what] += 1
        self.bad.append(f"{self.operation.name}, {what}, {where}: {text[-1500:]}")

    # Other accidents

    def fill(self, size):
        """Run it on a disk, or with files, of `size` bytes; then with room."""
        work = self.work
        with Limited(work, size) as limit:
            try:
                for path in work.iterdir() if work.exists() else ():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                work.mkdir(exist_ok=True)
                self.operation.start(work)
            except Exception:
                self.counts["too small to begin"] += 1
                return
            where = f"{size} bytes"
            is_done = self._try_once(
                lambda: self.operation.run(work), limit.in_process, where
            )
            limit.lift()
            kind, found = call(lambda: self.operation.look(work))
            if kind != "done":
                self._note("half files", where, str(found))
            self.repeat(where, is_done=is_done)

    def _try_once(self, function, before, where):
        """Say whether it came to its end."""
        kind, found = call(function, before=before)
        self.counts["tried"] += 1
        if kind == "killed":
            self._note("crashes", where, signal.Signals(found).name)
        elif kind == "done":
            self.counts["done"] += 1
        elif self.operation.is_clear(self.work, found[1]):
            self.counts["clear errors"] += 1
        else:
            self._note("unclear errors", where, found[2])
        return kind == "done"

    def two(self, rng):
        """Let two processes do it at once; one of them may be told to wait."""
        work = self.work
        self.fresh(work)
        function = lambda: self.operation.run(work)  # noqa: E731
        first = forked(function)
        time.sleep(rng.uniform(0, 0.5) * self.seconds)
        second = forked(function)
        is_done = False
        for process, pipe in (first, second):
            kind, found = answer_of(process, pipe)
            self.counts["tried"] += 1
            if kind == "done":
                self.counts["done"] += 1
                is_done = True
            elif kind == "error" and self.operation.is_clear(work, found[1]):
                self.counts["clear errors"] += 1
            else:
                self._note("unclear errors", "two writers", str(found[-1]))
        self.repeat("two writers", is_done=is_done)

    def refuse(self):
        """Run it in a folder that takes no file."""
        work = self.work
        self.fresh(work)
        run = ["mount", "--bind", str(work), str(work)]
        subprocess.run(run, check=True)
        try:
            options = "remount,ro,bind"
            subprocess.run(["mount", "-o", options, str(work)], check=True)
            self._try_once(
                lambda: self.operation.run(work), lambda: None, "read-only folder"
            )
        finally:
            unmount(work)
        self.repeat("read-only folder")


def die_at(folder, n):
    """Kill this process before the n-th point."""
    left = [n]

    def reached():
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    at_points(folder, reached)


def kill_all(process):
    """Kill a fork and its own processes."""
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass


# Disks


class Limited:
    """A folder on a small tmpfs; a limit of the size of files where none is allowed."""

    def __init__(self, folder, size):
        self.folder, self.size = folder, size
        self.is_mounted = may_mount()

    def __enter__(self):
        if self.is_mounted:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            mount_small(self.folder, self.size)
        return self

    def in_process(self):
        """Limit this process, which is a fork."""
        if not self.is_mounted:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, hard))

    def lift(self):
        """Make room."""
        if self.is_mounted:
            mount_small(self.folder, "256m", "remount,")

    def __exit__(self, *args):
        if self.is_mounted:
            unmount(self.folder)


def mount_small(folder, size, first=""):
    """Mount a tmpfs of a size on a folder, or change its size."""
    options = f"{first}size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True)


def unmount(folder):
    """Take a mounted folder away, whoever still uses it."""
    subprocess.run(["umount", "-l", str(folder)], check=True)


def may_mount():
    """Whether this process has a namespace of its own for mounts."""
    return os.environ.get("CHAOS_MOUNTS") == "private"


def private_mounts():
    """Return what to put before a command to let it mount; None where nothing does."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        probe = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        try:
            if subprocess.run(probe, capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            return None
    return None
