"""Checkpoints of a training, and files of weights: zip files of torch, safetensors."""

import io
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from harness import FileKind
from mutations import INTEGERS, mutate

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.datasets import make_perturbation_study

STUDY = make_perturbation_study(
    6, n_cell_lines=2, n_genes=5, level=5, n_replicates=1, random_state=0
)


def make_net(**params):
    """Make a net so small that its training takes milliseconds."""
    return CoordinatedEmbedder(
        None, module__expression_layers=(3,), module__embedding_size=2, lr=0.01,
        batch_size=16, callbacks__print_log=None, optimizer=torch.optim.AdamW,
        random_state=0, **params,
    )  # fmt: skip


X, Y = STUDY.ge[:, :4] + 1, STUDY.ge


class TorchFiles(FileKind):
    """Zip files of torch: mutated as they are, where every change must be found.

    Or inside and packed again with the right checksums, as only who meant it would.
    """

    def mutate(self, rng, path, content):
        self.sealed = content[:2] != b"PK" or rng.random() < 0.3
        if self.sealed:
            return mutate(rng, content, self.max_bytes)
        return mutate_zip(rng, content, self.max_bytes)


def mutate_zip(rng, content, most):
    """Mutate a record of torch's file and pack again, with the right checksums."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(out, "w") as target,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        names = source.namelist()
        # The pickle says most.
        chosen = names[0] if rng.random() < 0.6 else names[rng.integers(len(names))]
        for name in names:
            record = source.read(name)
            if name == chosen:
                record = mutate_record(rng, record, most)
            target.writestr(name, record)
        if rng.random() < 0.05:
            target.writestr(names[rng.integers(len(names))], b"x")
    return out.getvalue()


def mutate_record(rng, record, most):
    """Mutate bytes, or what they are made of."""
    if record[:2] == b"PK" and rng.random() < 0.7:  # a file in a file
        return mutate_zip(rng, record, most)
    change = mutate_pickle if record[:1] == b"\x80" and rng.random() < 0.5 else mutate
    return change(rng, record, most)


INSTRUCTIONS = [
    b"N", b"\x88", b"\x89", b"]", b"}", b")", b"(", b"t", b"R", b"b", b"s", b"u", b"a",
    b"e", b"Q", b"\x85", b"\x86", b"\x87", b"\x81", b"0", b"2", b".",
    b"G\x7f\xf8\x00\x00\x00\x00\x00\x00", b"G\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"G\xc1\xe0\x00\x00\x00\x00\x00\x00", b"X\x02\x00\x00\x00lr",
    b"cposix\nsystem\n", b"ctorch\nload\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
]  # fmt: skip


def mutate_pickle(rng, content, most):
    """Put an instruction, or another number, in the place of one."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 3)):
        kind = rng.integers(3)
        if kind == 0:  # small integers: shapes, strides, counts, settings
            places = [i for i, byte in enumerate(content) if byte == ord("K")]
            if places:
                at = places[rng.integers(len(places))]
                value = int(rng.choice(INTEGERS)) & 0xFFFFFFFF
                content[at : at + 2] = b"J" + value.to_bytes(4, "little")
        elif kind == 1:
            places = [i for i, byte in enumerate(content) if byte == ord("G")]
            if places:
                at = places[rng.integers(len(places))]
                value = rng.choice([np.nan, np.inf, -1.0, 0.0, 1e308, 1e-320])
                content[at + 1 : at + 9] = np.array(value, ">f8").tobytes()
        else:
            at = int(rng.integers(len(content)))
            piece = INSTRUCTIONS[rng.integers(len(INSTRUCTIONS))]
            content[at : at + rng.integers(0, 3)] = piece
    return bytes(content[:most])


class Checkpoint(TorchFiles):
    """The file of a training that was cut off."""

    name = "checkpoint"

    def make(self, folder):
        net = make_net(max_epochs=2, checkpoint_folder=folder)
        unlink, Path.unlink = Path.unlink, lambda self, missing_ok=False: None
        try:  # as if it had been killed at the end of its last epoch but one
            net.fit(X, Y)
        finally:
            Path.unlink = unlink
        for path in folder.glob(".*"):
            path.unlink()

    def read(self, folder):
        kept = folder.with_name("kept")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
        net = make_net(max_epochs=2, checkpoint_folder=folder)
        try:
            net.fit(X, Y)
        finally:
            shutil.rmtree(folder)
            kept.rename(folder)
        losses = [epoch.get("train_loss", 0.0) for epoch in net.history]
        return [losses, net.transform(X), net.transform_ge(Y)]


class Weights(TorchFiles):
    """What `save_params` writes, as files of torch and as safetensors."""

    name = "checkpoint-weights"

    def make(self, folder):
        net = self.net = make_net(max_epochs=2).fit(X, Y)
        net.save_params(str(folder / "params"), str(folder / "optimizer"))
        net.save_params(str(folder / "safe"), use_safetensors=True)

    def draw(self, rng):
        self.safe = rng.random() < 0.4
        names = ["safe"] if self.safe else ["params", "optimizer"]
        self.files = [Path(name) for name in names]
        return super().draw(rng)

    def read(self, folder):
        net = self.net
        if getattr(self, "safe", False):
            net.load_params(folder / "safe", use_safetensors=True)
        else:
            net.load_params(folder / "params", folder / "optimizer")
        state = net.module_.state_dict().values()
        return [s.numpy() for s in state if s.dtype == torch.float32]

    def mutate(self, rng, path, content):
        if not self.safe:
            return super().mutate(rng, path, content)
        self.sealed = True
        change = mutate if rng.random() < 0.4 else mutate_safetensors
        return change(rng, content, self.max_bytes)

    def is_clear(self, case, error):
        # Weights of another network: the error says of which, the file is whole.
        is_other = isinstance(error, ValueError) and "The weights" in str(error)
        return super().is_clear(case, error) or (is_other and not self.sealed)

    def judge(self, case, answer):
        if not all(np.isfinite(values).all() for values in answer):
            return "weights that are not finite"
        return super().judge(case, answer)


def mutate_safetensors(rng, content, most):
    """Write another header: kinds, shapes and places of tensors."""
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    name = list(header)[rng.integers(len(header))]
    if rng.random() < 0.2:
        text = mutate(rng, content[8 : 8 + n], most)
    else:
        key = ["dtype", "shape", "data_offsets"][rng.integers(3)]
        value = header[name][key]
        if key == "dtype":
            header[name][key] = str(rng.choice(["F64", "I32", "F16", "BOOL", "U8"]))
        elif value:
            value[rng.integers(len(value))] = int(rng.choice(INTEGERS))
        text = json.dumps(header).encode()
    size = len(text)
    if rng.random() < 0.2:
        size = int(rng.choice(INTEGERS)) & (1 << 63) - 1
    return size.to_bytes(8, "little") + text + content[8 + n :]


KINDS = [Checkpoint(), Weights()]
