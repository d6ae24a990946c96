"""index.faiss and its description, beside an index: a cache that is built again."""

import hashlib
import json
from importlib.util import find_spec

from harness import FileKind
from kind_index import embedder
from mutations import mutate

from sklearn_molge.library import MoleculeIndex


class Faiss(FileKind):
    """Whatever lies there, the answers are those of the exact search."""

    name = "faiss"
    sealed = True

    def make(self, folder):
        self.embedder, self.y = embedder()
        smiles = [("C" * i) + tail for i in range(1, 9) for tail in "ONF"]
        index = MoleculeIndex(self.embedder, folder=folder, backend="faiss").fit(smiles)
        index.kneighbors(self.y, 1)
        for path in folder.glob("*embedder*"):
            path.unlink()

    def prepare(self, folder):
        super().prepare(folder)
        self.files = [path for path in self.files if "faiss" in path.name]

    def read(self, folder):
        index = MoleculeIndex.open(folder, estimator=self.embedder, backend="faiss")
        return list(index.kneighbors(self.y, 7))

    def mutate(self, rng, path, content):
        described = path.with_name("index.faiss.json")
        how = rng.random()
        if path == described and how < 0.6:  # a text in JSON inside JSON
            outer = json.loads(content)
            if how < 0.4:
                told = mutate(rng, outer["index"].encode(), self.max_bytes)
                outer["index"] = told.decode(errors="replace")
            else:
                outer["signature"] = rng.bytes(32).hex()
            return json.dumps(outer).encode()
        changed = super().mutate(rng, path, content)
        if path != described and how < 0.5:  # with the right checksum
            outer = json.loads(described.read_bytes())
            told = json.loads(outer["index"])
            told["digest"] = hashlib.sha256(changed).hexdigest()
            outer["index"] = json.dumps(told)
            described.write_text(json.dumps(outer))
        return changed


KINDS = [Faiss()] if find_spec("faiss") else []
