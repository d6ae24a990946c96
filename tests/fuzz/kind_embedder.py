"""The embedder in the folder of an index: run only if this installation wrote it."""

import hashlib
import os
import pickle
import pickletools

import numpy as np
from harness import FileKind
from mutations import mutate
from sklearn.base import BaseEstimator

from sklearn_molge.exceptions import CorruptFileError, UntrustedFileError
from sklearn_molge.library import MoleculeIndex

_NAME = "embedder.pickle"
_RAN = "FUZZ_EMBEDDER_RAN"


class Hashed(BaseEstimator):
    """Embeds texts by their hashes, which is quick."""

    metric = "dot"
    n_genes_in_ = 4

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        digests = [hashlib.md5(text.encode()).digest()[:4] for text in X]
        return np.array([list(d) for d in digests], dtype=np.float32).reshape(-1, 4)

    def transform_ge(self, y):
        return np.asarray(y, dtype=np.float32)

    def similarity(self, X, y):
        """Make it a two-view estimator."""


class Payload:
    """Sets a variable of the environment when it is unpickled."""

    def __reduce__(self):
        return os.putenv, (_RAN, "1")


class Embedder(FileKind):
    """The signed pickle, mutated, or another one in its place."""

    name = "embedder"
    sealed = True

    def make(self, folder):
        index = MoleculeIndex(Hashed(), folder=folder / "index", unique_by=None)
        index.fit(["CCO", "CCN", "CCC"])

    def read(self, folder):
        self.ran = []
        real, os.putenv = os.putenv, lambda *given: self.ran.append(given)
        try:
            index = MoleculeIndex.open(folder / "index")
        finally:
            os.putenv = real
        return list(index.kneighbors(np.eye(4)[:2], 2))

    def draw(self, rng):
        path = super().draw(rng)
        if path.name != _NAME:  # of which other kinds know
            path.write_bytes((self.good / "index" / path.name).read_bytes())
            path = self.folder / "index" / _NAME
            path.write_bytes(self.mutate(rng, path, path.read_bytes()))
        return path

    def mutate(self, rng, path, content):
        if path.name != _NAME:
            return content
        mark, code = content.index(b"\n") + 1, 32
        body = content[mark:-code]
        payload = pickle.dumps(Payload(), protocol=int(rng.integers(6)))
        kind = rng.integers(7)
        if kind == 0:  # another pickle between a good mark and code
            return content[:mark] + payload + content[-code:]
        if kind == 1:  # no mark at all
            return payload
        if kind == 2:  # two pickles
            return content[:mark] + payload + body + content[-code:]
        if kind == 3:  # an opcode in the place of another
            places = [at for _, _, at in pickletools.genops(body)]
            at = int(rng.choice(places))
            changed = bytearray(body)
            changed[at] = rng.choice(list(b"cRbioV0.(}]q\x93\x94\x80"))
            return content[:mark] + bytes(changed) + content[-code:]
        if kind == 4:  # a code of other bytes
            return content[:-code] + rng.bytes(code)
        return mutate(rng, content, self.max_bytes)

    def is_clear(self, case, error):
        is_ours = isinstance(error, UntrustedFileError | CorruptFileError)
        return is_ours and not self.ran and str(case) in str(error)

    def judge(self, case, answer):
        if self.ran:
            return "the payload ran"
        if case.read_bytes() != (self.good / "index" / _NAME).read_bytes():
            return "a changed embedder was opened"
        return super().judge(case, answer)


KINDS = [Embedder()]
