"""Model files: damaged, and forged with the right checksums."""

import hashlib
import io
import json
import zipfile

import numpy as np
from harness import FileKind
from mutations import mutate
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import load_background, load_model, save_model

X = np.array(["CCO", "CCN", "CCC", "c1ccccc1O", "CC=O", "CCCl"], dtype=object)
Y = np.random.default_rng(0).normal(size=(6, 6))


class Model(FileKind):
    """A file as it lies on a disk."""

    name = "model"
    sealed = True

    def make(self, folder):
        pipe = make_pipeline(MorganFingerprinter(fp_size=32), CCA(3, ridge=0.1))
        save_model(pipe.fit(X, Y), folder / "a.molge", background=(X, Y))

    def read(self, folder):
        model = load_model(folder / "a.molge")
        background = load_background(folder / "a.molge")
        kept = [background.smiles, background.profiles] if background else []
        return [model.transform(X), similarity(model, X, Y), *kept]


class Network(Model):
    """A network of torch."""

    name = "model-network"

    def make(self, folder):
        net = CoordinatedEmbedder(
            None,
            molecule_features=MorganFingerprinter(fp_size=32),
            module__expression_layers=(4,),
            module__embedding_size=4,
            max_epochs=1,
            random_state=0,
        )
        save_model(net.fit(X, Y), folder / "a.molge")


class Forged(Model):
    """A part was forged, and its checksum computed again: the model may be wrong."""

    name = "model-forged"
    sealed = False

    def mutate(self, rng, path, content):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(parts.pop("manifest.json"))
        name = str(rng.choice(sorted(parts)))
        parts[name] = mutate(rng, parts[name], self.max_bytes)
        sums = {k: hashlib.sha256(v).hexdigest() for k, v in sorted(parts.items())}
        manifest["parts"] = {k: {"sha256": v} for k, v in sums.items()}
        own = {k: v for k, v in sums.items() if not k.startswith("background/")}
        manifest["identity"] = hashlib.sha256(json.dumps(own).encode()).hexdigest()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.comment = bytes(64)
            archive.writestr("manifest.json", json.dumps(manifest))
            for name, part in parts.items():
                archive.writestr(name, part)
        whole = buffer.getvalue()[:-64]
        return whole + hashlib.sha256(whole).hexdigest().encode()

    def read(self, folder):
        # A model with other parameters may fail in its own words when it is used.
        load_background(folder / "a.molge")
        return type(load_model(folder / "a.molge")).__name__


class ForgedNetwork(Forged):
    """The same of a network."""

    name = "model-forged-network"
    make = Network.make


KINDS = [Model(), Network(), Forged(), ForgedNetwork()]
