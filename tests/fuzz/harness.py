"""What every kind of input has in common, and the processes that try it.

A kind makes a good input, draws bad ones from it, and reads them by public calls. What
becomes of each is one of `OUTCOMES`. Cases run in a process of their own, which may die
or hang: the next one goes on after the case that did it.
"""

import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from mutations import mutate

OUTCOMES = ("clear error", "accepted", "unclear error", "wrong", "crash", "hang")
GOOD = ("clear error", "accepted")
SECONDS = 20.0  # for one case; a good input takes far less than one
MEMORY = 3 << 30  # bytes that a case may ask for, above what is there at the start


class Kind:
    """A kind of input: what :file:`kind_*.py` holds one or more of.

    `prepare` runs once; `draw` makes a case from a generator, the same for the same
    seed; `use` gives it to the library. `is_clear` tells a good error from a bad one,
    and `judge` says what is wrong with an answer, if anything.
    """

    name = ""

    def prepare(self, folder):
        """Make what the cases start from; `folder` is empty and this kind's own."""

    def draw(self, rng):
        """Return a bad input, or one that looks so."""
        raise NotImplementedError

    def use(self, case):
        """Give it to the library, and touch all of what comes back."""
        raise NotImplementedError

    def is_clear(self, case, error):
        """Whether the user can tell from the error what to mend."""
        return isinstance(error, ValueError | TypeError | OSError)

    def judge(self, case, answer):
        """Say what is wrong with an answer; None if nothing is."""
        return None


class FileKind(Kind):
    """Files in a folder, one of them mutated in each case.

    `make` writes good ones and `read` reads them all. Where `sealed`, the files have
    checksums: an answer other than that of the good files is wrong.
    """

    sealed = False
    max_bytes = 1 << 20  # what a mutation may make of a file

    def make(self, folder):
        """Write the good files."""
        raise NotImplementedError

    def read(self, folder):
        """Read all that the files say: lists, dicts, arrays and numbers."""
        raise NotImplementedError

    def mutate(self, rng, path, content):
        """Return the bytes of a mutated file."""
        return mutate(rng, content, self.max_bytes)

    def prepare(self, folder):
        self.good, self.folder = folder / "good", folder / "case"
        self.good.mkdir()
        self.make(self.good)
        self.files = sorted(
            p.relative_to(self.good) for p in self.good.rglob("*") if p.is_file()
        )
        self.expected = self.read(self.good)

    def draw(self, rng):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.good, self.folder)
        path = self.folder / self.files[rng.integers(len(self.files))]
        path.write_bytes(self.mutate(rng, path, path.read_bytes()))
        return path

    def use(self, case):
        return self.read(self.folder)

    def is_clear(self, case, error):
        is_expected = isinstance(error, ValueError | OSError)
        return is_expected and str(self.folder) in str(error)

    def judge(self, case, answer):
        if self.sealed and not same(answer, self.expected):
            return "another answer than that of the good files"
        return None


def same(a, b):
    """Whether two trees of lists, dicts, arrays and numbers are equal, NaN included."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return False
    if a.dtype.kind in "fc":
        return np.array_equal(a, b, equal_nan=True)
    return bool(np.all((a == b) | ((a != a) & (b != b))))


def try_case(kind, seed, number):
    """Run one case; return its outcome and what there is to say."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number])
    case = kind.draw(rng)
    try:
        answer = kind.use(case)
    except Exception as error:
        is_clear = kind.is_clear(case, error)
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(last.filename).name})"
        return ("clear error" if is_clear else "unclear error"), text
    why = kind.judge(case, answer)
    return ("accepted", "") if why is None else ("wrong", why)


def work(kind, seed, numbers, folder, out):
    """Run cases in this process, and write a line before and after each."""
    warnings.simplefilter("ignore")
    kind.prepare(folder)
    _limit_memory()
    for number in numbers:
        print(json.dumps([number, None, ""]), file=out, flush=True)
        outcome, text = try_case(kind, seed, number)
        print(json.dumps([number, outcome, text[:2000]]), file=out, flush=True)


def _limit_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(kind, seed, start, stop):
    """Yield (number, outcome, text) of each case, whatever becomes of its process."""
    while start < stop:
        for number, outcome, text in _one_process(kind, seed, start, stop):
            start = number + 1
            yield number, outcome, text


def _one_process(kind, seed, start, stop):
    """Run cases in a fork of this process, up to one that kills it."""
    mine, theirs = os.pipe()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        tempfile.TemporaryFile() as errors,
        os.fdopen(mine, "rb", buffering=0) as lines,
    ):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _child(kind, seed, range(start, stop), Path(folder), theirs, errors)
        os.close(theirs)
        why = "nobody asks for the rest"
        try:
            number, why = yield from _follow(lines)
        finally:
            if why is not None:
                os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        errors.seek(0)
        said = errors.read().decode(errors="replace")
        if why is None and number is None and code:
            raise RuntimeError(said[-4000:])
        if why is not None:
            yield number, "hang", why
        elif number is not None:
            yield number, "crash", f"ended with {_ending(code)}: {said[-400:]}"


def _child(kind, seed, numbers, folder, pipe, errors):
    """Run cases with all that is printed in a file, and end this process."""
    code = 1
    try:
        os.setsid()
        for stream in (1, 2):
            os.dup2(errors.fileno(), stream)
        with open(pipe, "w", encoding="utf-8") as out:
            work(kind, seed, numbers, folder, out)
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _follow(lines):
    """Yield what a process says; return the case that it is at, and why it hangs."""
    began, pending, limit = None, b"", 10 * SECONDS  # the good input may take longer
    while True:
        if not select.select([lines], [], [], limit)[0]:
            if began is None:
                raise RuntimeError(f"no case began within {limit:g} s")
            return began, f"more than {limit:g} s"
        chunk = lines.read(1 << 16)
        if not chunk:
            return began, None
        limit = SECONDS
        *whole, pending = (pending + chunk).split(b"\n")
        for number, outcome, text in map(json.loads, whole):
            began = number if outcome is None else None
            if outcome is not None:
                yield number, outcome, text


def _ending(code):
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def count(cases):
    """Count outcomes, and keep what is not good."""
    counts, bad = Counter(), []
    for number, outcome, text in cases:
        counts[outcome] += 1
        if outcome not in GOOD:
            bad.append((number, outcome, text))
    return counts, bad
