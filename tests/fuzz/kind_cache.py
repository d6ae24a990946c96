"""The cache of an evaluation: pickles, of which none but ours may be opened."""

import inspect
import os
import pickle
import shutil

import joblib
import numpy as np
from harness import FileKind
from mutations import mutate

from sklearn_molge.evaluation import evaluate_study

# How evaluate_study keeps results; all of it takes a hundred times as long.
_PARTS = inspect.unwrap(evaluate_study).__globals__
Outcome, ResultCache = _PARTS["Outcome"], _PARTS["ResultCache"]


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class Cache(FileKind):
    """Two results, each in a signed file: what is found is right, or nothing."""

    name = "cache"

    def make(self, folder):
        os.environ["XDG_DATA_HOME"] = str(folder.parent / "home")
        self.made = folder.parent / "made"
        cache = ResultCache(folder, folder)
        for i in range(2):
            cache.save(self.path(cache, i), Outcome(ranks=np.arange(5.0) + i))

    def path(self, cache, i):
        return cache.path("method", "CCA", {"number": i})

    def read(self, folder):
        cache = ResultCache(folder, folder)
        found = [cache.find(self.path(cache, i)) for i in range(2)]
        return [(value and value.ranks, why) for value, why in found]

    def mutate(self, rng, path, content):
        payload = pickle.dumps(Payload(self.made), protocol=int(rng.integers(6)))
        start = content.index(b"\n") + 1
        kind = rng.integers(9)
        if kind == 0:
            return payload
        if kind == 1:
            joblib.dump(Payload(self.made), path, compress=int(rng.integers(10)))
            return path.read_bytes()
        if kind == 2:  # between our mark and a signature
            return content[:start] + payload + content[-32:]
        if kind == 3:
            return content[:start] + payload + content[start:]
        if kind == 4:  # before the end of ours
            return content[: -33 - int(rng.integers(20))] + payload + content[-32:]
        if kind == 5:  # the other result, under this one's name
            other = next(p for p in path.parent.glob("method-*") if p != path)
            return other.read_bytes()
        if kind == 6:  # as if signed by others
            return content[:-32] + rng.bytes(32)
        return mutate(rng, content, self.max_bytes)

    def judge(self, case, answer):
        if self.made.exists():
            shutil.rmtree(self.made)
            return "code of a file was run"
        for i, (ranks, why) in enumerate(answer):
            if (ranks is None) == (why == ""):
                return "a file is left out without a word, or used with one"
            if ranks is not None and not np.array_equal(ranks, np.arange(5.0) + i):
                return "another result"
        return None


KINDS = [Cache()]
