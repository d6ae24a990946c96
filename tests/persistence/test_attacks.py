"""Files that somebody made to do harm, or that were damaged: all are refused."""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from functools import partial

import joblib
import numpy as np
import pytest

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import (
    describe_model,
    load_background,
    load_model,
    save_model,
)


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path, members, *, duplicate=None, compress=zipfile.ZIP_STORED):
    """Write members, sealed as a file of a model is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        archive.comment = bytes(64)
        for name, content in members.items():
            archive.writestr(name, content)
        if duplicate is not None:
            archive.writestr(duplicate, members[duplicate])
    content = buffer.getvalue()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def sealed(parts, manifest):
    """Return members with the checksums of their parts."""
    sums = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
    }
    own = sorted(name for name in sums if not name.startswith("background/"))
    told = json.dumps({name: sums[name]["sha256"] for name in own})
    manifest = {
        **manifest,
        "parts": sums,
        "identity": hashlib.sha256(told.encode()).hexdigest(),
    }
    return {"manifest.json": json.dumps(manifest).encode(), **parts}


@pytest.fixture
def forge(path):
    """Return what changes a file as somebody would who knows the format."""

    def forge(change=None, *, parts=None, manifest=None):
        members = members_of(path)
        told = {**json.loads(members.pop("manifest.json")), **(manifest or {})}
        if change is not None:
            schema = json.loads(members["schema.json"])
            schema = change(schema) or schema
            members["schema.json"] = json.dumps(schema).encode()
        members.update(parts or {})
        write_zip(path, sealed(members, told))
        return path

    return forge


def nodes(schema):
    """Yield all nodes of a schema."""
    if isinstance(schema, dict):
        if "__loader__" in schema:
            yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


def npy(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


CALLED = []


def harm(*args):
    CALLED.append(args)


harm.__module__, harm.__qualname__ = "os", "system"  # by which pickle finds it


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    """Fail where a file has something called that only an attack would call."""
    CALLED.clear()
    monkeypatch.setattr("os.system", harm)
    monkeypatch.setattr("subprocess.Popen", harm)
    yield
    assert not CALLED


class Payload:
    def __reduce__(self):
        return os.system, ("echo harm",)


def refused(path, part, message):
    with pytest.raises(CorruptFileError, match=message) as caught:
        load_model(path)
    assert caught.value.path == str(path)
    assert part in caught.value.part
    assert load_fails_the_same_way(path)


def load_fails_the_same_way(path):
    with pytest.raises(CorruptFileError):
        load_model(str(path))
    return True


def test_a_forged_file_can_be_opened_if_it_says_nothing_new(forge):
    load_model(forge())


# -- names ---------------------------------------------------------------------------

JSON = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode",
        "content": '"echo harm"'}  # fmt: skip


def sequence(kind, *content):
    return {"__class__": kind, "__module__": "builtins",
            "__loader__": f"{kind.title()}Node", "content": list(content)}  # fmt: skip


def mapping(**content):
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"}
    keys = sequence("list", *[text] * len(content))
    return {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode",
            "content": content, "key_types": keys}  # fmt: skip


def named(loader, full, **more):
    module, _, name = full.rpartition(".")
    return {"__loader__": loader, "__module__": module, "__class__": name, **more}


def function(full):
    return named("FunctionNode", full)


ATTACKS = {
    "function": (function("os.system"), r"names os\.system"),
    "ufunc by function": (function("numpy.log1p"), r"names numpy\.log1p"),
    "eval": (named("TypeNode", "builtins.eval"), r"names builtins\.eval"),
    "exec as object": (
        named("ObjectNode", "builtins.exec", content=mapping()),
        r"names builtins\.exec",
    ),
    "partial": (
        named(
            "PartialNode", "functools.partial",
            content={
                "func": function("os.system"), "args": sequence("tuple", JSON),
                "kwds": mapping(), "namespace": mapping(),
            },
        ),
        r"names functools\.partial",
    ),
    "methodcaller": (
        named("OperatorFuncNode", "operator.methodcaller",
              attrs=sequence("tuple", JSON)),
        r"names operator\.methodcaller",
    ),
    "method": (
        named("MethodNode", "sklearn.pipeline.Pipeline",
              content={"func": "fit",
                       "obj": named("ObjectNode", "sklearn.pipeline.Pipeline")}),
        r"made by 'MethodNode'",
    ),
    "reduce": (
        named("ConstructorFromReduceNode", "subprocess.Popen",
              content=sequence("tuple", JSON)),
        r"names subprocess\.Popen",
    ),
    "tree": (
        named("TreeNode", "sklearn.tree._tree.Tree", content=mapping(),
              __reduce__={"args": sequence("tuple")}),
        r"names sklearn\.tree\._tree\.Tree",
    ),
    "tree as object": (
        named("ObjectNode", "sklearn.tree._tree.Tree", content=mapping()),
        r"sklearn\.tree\._tree\.Tree",
    ),
    "loss": (
        named("LossNode", "os.system", content=mapping(),
              __reduce__={"args": sequence("tuple", JSON)}),
        r"names os\.system",
    ),
    "list of another type": (
        {**sequence("list", JSON), "__module__": "os", "__class__": "system"},
        r"names os\.system in the place of builtins\.list",
    ),
    "tuple of another type": (
        {**sequence("tuple", JSON), "__module__": "os", "__class__": "system"},
        r"names os\.system in the place of builtins\.tuple",
    ),
    "dict of another type": (
        {**mapping(a=JSON), "__module__": "os", "__class__": "environ"},
        r"names os\.environ",
    ),
    "keys of another type": (
        {**mapping(a=JSON),
         "key_types": sequence("list", named("TypeNode", "os.system"))},
        r"names os\.system in the place of builtins\.str",
    ),
    "default dict": (
        named("DefaultDictNode", "collections.defaultdict",
              content={"main": mapping(), "default_factory": function("os.system")}),
        r"DefaultDictNode",
    ),
    "generator": (
        named("RandomGeneratorNode", "numpy.random._generator.Generator", content={}),
        r"RandomGeneratorNode",
    ),
    "array of another type": (
        named("NdArrayNode", "os.system", type="numpy", file="arrays/0.npy"),
        r"names os\.system, which is no array",
    ),
    "numpy's own reader": (
        named("NdArrayNode", "numpy.load", type="numpy", file="arrays/0.npy"),
        r"names numpy\.load, which is no array",
    ),
    "array elsewhere": (
        named("NdArrayNode", "numpy.ndarray", type="numpy", file="/etc/passwd"),
        r"'/etc/passwd', which is no part",
    ),
    "array twice": (
        named("NdArrayNode", "numpy.ndarray", type="numpy", file="arrays/0.npy"),
        r"'arrays/0\.npy', which is no part, or that of another",
    ),
    "array of nodes": (
        named("NdArrayNode", "numpy.ndarray", type="json", content=[], shape=JSON),
        r"which is no part",
    ),
    "loader with another name": (named("_class__", "os.system"), r"names os\.system"),
    "class of the library with its own state": (
        named(
            "ObjectNode", "sklearn_molge.alignment._coordinated.CoordinatedEmbedder",
            content=mapping(),
        ),
        r"names sklearn_molge\.alignment\._coordinated\.CoordinatedEmbedder",
    ),
    "store of an index": (
        named("ObjectNode", "sklearn_molge.library._store.VectorStore",
              content=mapping(folder=JSON)),
        r"names sklearn_molge\.library\._store\.VectorStore",
    ),
    "function of the library": (
        named("ObjectNode", "sklearn_molge.persistence._encoding.import_skops"),
        r"import_skops",
    ),
    "another class of the library": (
        named("ObjectNode", "sklearn_molge.molecules._smiles.Recent",
              content=mapping()),
        r"Recent",
    ),
    "through a public room": (
        named("ObjectNode", "sklearn_molge.alignment._cca.np", content=mapping()),
        r"names sklearn_molge\.alignment\._cca\.np",
    ),
    "control characters": (function("\x1b[2J.system"), r"names \\x1b\[2J\.system"),
    "json that is more": ({**JSON, "content": "[1]"}, r"a text is no number"),
    "json that is deep": ({**JSON, "content": "[" * 100_000}, r"Recursion|JSON"),
    "long number": ({**JSON, "content": "9" * 100_000}, r"Exceeds|digits"),
    "no node": ("text", r"a str stands where an object should"),
    "no class": ({"__loader__": "JsonNode"}, r"no loader, module or class"),
    "cycle": (named("CachedNode", "a.b", __id__=12345), r"is not there before"),
    "number of a node": (
        {**JSON, "__id__": [1]}, r"an object has the number \[1\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_schema_that_names_what_is_no_part_of_a_model(forge, name):
    attack, message = ATTACKS[name]

    def change(schema):
        schema["content"]["content"]["harm"] = attack
        keys = schema["content"]["key_types"]["content"]
        keys.append({**keys[0]})

    refused(forge(change), "schema.json", message)


@pytest.mark.parametrize("name", ["function", "partial", "reduce", "exec as object"])
def test_an_attack_at_the_root(forge, name):
    attack, message = ATTACKS[name]
    path = forge(lambda schema: {**attack, "protocol": schema["protocol"]})
    refused(path, "schema.json", message)


@pytest.mark.parametrize("protocol", [0, -1, 99, True, "2", None])
def test_other_protocols(forge, protocol):
    path = forge(lambda schema: schema.update(protocol=protocol))
    refused(path, "schema.json", "protocol")


def test_nested_too_deeply(forge):
    def change(schema):
        inner = JSON
        for _ in range(200):
            inner = sequence("list", inner)
        schema["content"]["content"]["memory"] = inner

    refused(forge(change), "schema.json", "levels deep")
    text = b'{"a":' * 100_000
    refused(forge(parts={"schema.json": text}), "schema.json", "Recursion|nested")


def test_few_objects_that_stand_for_many(forge):
    def change(schema):
        inner = sequence("list", JSON)
        for level in range(1, 40):
            again = named("CachedNode", "builtins.list", __id__=1000 + level)
            inner = sequence("list", {**inner, "__id__": 1000 + level}, again)
        schema["content"]["content"]["memory"] = inner

    refused(forge(change), "schema.json", "more than 300,000 objects")


def stand_in(kind, content):
    state = mapping(kind={**JSON, "content": json.dumps(kind)}, content=content)
    return named(
        "ObjectNode", "sklearn_molge.persistence._encoding.StandIn", content=state
    )


def text(value):
    return {**JSON, "content": json.dumps(value)}


STAND_INS = {
    "kind": (stand_in("call", text("os.system")), r"an object of kind 'call'"),
    "class": (stand_in("class", text("os.system")), r"names os\.system"),
    "class of a function": (
        stand_in("class", text("builtins.eval")), r"names builtins\.eval",
    ),
    "class of a package": (
        stand_in("class", text("torch.optim.adam.torch")), r"names torch",
    ),
    "layer": (
        stand_in("layer", sequence("list", text("os.system"), *[mapping()] * 6)),
        r"names os\.system",
    ),
    "restored": (
        stand_in("restored", sequence("list", text("os.system"), mapping())),
        r"names os\.system",
    ),
    "ufunc": (
        stand_in("ufunc", sequence("list", text("numpy"), text("load"))),
        r"names numpy\.load",
    ),
    "ufunc elsewhere": (
        stand_in("ufunc", sequence("list", text("os"), text("system"))), r"'os'",
    ),
    "tensor": (
        stand_in("tensor", sequence("list", *[text("a")] * 4)), r"KeyError: 'a'",
    ),
    "sparse": (
        stand_in("sparse", sequence("list", text("system"), *[text(0)] * 6)),
        r"format 'system'",
    ),
    "sparse beyond its shape": (
        stand_in(
            "sparse",
            sequence(
                "list", text("csr"), text(True), sequence("tuple", text(1), text(2)),
                text(True),
                sequence("list", text(1.0)), sequence("list", text(900)),
                sequence("list", text(0), text(1)),
            ),
        ),
        r"ind|column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAND_INS)
def test_a_stand_in_that_names_what_is_no_part_of_a_model(forge, name):
    attack, message = STAND_INS[name]

    def change(schema):
        schema["content"]["content"]["memory"] = attack

    refused(forge(change), "schema.json", message)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("memory", text("//evil/share"), "for one machine alone"),
        ("fit", text(1), "fit is a method of Pipeline"),
        ("get_params", stand_in("ufunc", sequence("list", text("numpy"), text("exp"))),
         "get_params is a method"),
    ],
)  # fmt: skip
def test_attributes_that_change_what_an_object_does(forge, attribute, value, message):
    def change(schema):
        content = schema["content"]
        if attribute not in content["content"]:
            keys = content["key_types"]["content"]
            keys.append({**keys[0]})
        content["content"][attribute] = value

    refused(forge(change), "schema.json", message)


def test_a_network_that_would_unpickle(tmp_path, forge, path):
    net = CoordinatedEmbedder(None, molecule_features=MorganFingerprinter())
    save_model(net, path)

    def change(schema):
        for node in nodes(schema):
            if "torch_load_kwargs" in (node.get("content") or ()):
                node["content"]["torch_load_kwargs"] = mapping(weights_only=text(False))

    refused(forge(change), "schema.json", "torch_load_kwargs")


# -- parts ---------------------------------------------------------------------------


def liar(shape, content=b""):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(117) + "\n"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(header))
        + header.encode()
        + content
    )


ARRAYS = {
    "pickle": (pickle.dumps(Payload()), "magic"),
    "objects": (npy(np.array([Payload()]), allow_pickle=True), "array of objects"),
    "objects in a field": (
        npy(np.zeros(1, dtype=[("a", object)]), allow_pickle=True), "array of objects",
    ),
    "larger than it is": (liar((10**12,)), "not what is stored"),
    "smaller than it is": (liar((1,), bytes(16)), "not what is stored"),
    "negative": (liar((-1, -1), bytes(8)), "."),
    "code in the header": (liar("__import__('os').system('x')"), "."),
    "zip": (b"PK\x03\x04" + bytes(100), "magic"),
    "empty": (b"", "."),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_that_is_none(forge, name):
    content, message = ARRAYS[name]
    refused(forge(parts={"arrays/0.npy": content}), "arrays/0.npy", message)


def header_of(entry, n_bytes=16):
    text = json.dumps(entry).encode()
    return struct.pack("<Q", len(text)) + text + bytes(n_bytes)


TENSORS = {
    "beyond its end": {"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}},
    "other shape": {"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 16]}},
    "overlap": {
        "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        "b": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
    },
    "backwards": {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_header_of_tensors_that_lies(forge, name):
    path = forge(parts={"tensors.safetensors": header_of(TENSORS[name])})
    refused(path, "tensors.safetensors", ".")


@pytest.mark.parametrize("n", [0, 2**62, 2**64 - 1])
def test_a_length_of_a_header_of_tensors_that_lies(forge, n):
    content = struct.pack("<Q", n) + b"{}"
    refused(forge(parts={"tensors.safetensors": content}), "tensors.safetensors", ".")


def test_other_members(path):
    members = members_of(path)
    told = json.loads(members.pop("manifest.json"))
    for name in ("../evil.py", "/etc/passwd", "arrays/x.npy", "code.py", "a\\b"):
        write_zip(path, sealed({**members, name: b"x"}, told))
        refused(path, name, "no such part")
    whole = sealed(members, told)
    write_zip(path, {**whole, "arrays/999.npy": npy(np.zeros(1))})
    refused(path, "arrays/999.npy", "not among the parts")
    write_zip(path, {k: v for k, v in whole.items() if k != "arrays/0.npy"})
    refused(path, "arrays/0.npy", "not among the parts")
    with pytest.warns(UserWarning, match="Duplicate"):
        write_zip(path, whole, duplicate="schema.json")
    refused(path, "zip", "two of its parts have one name")
    write_zip(path, whole, compress=zipfile.ZIP_DEFLATED)
    refused(path, ".npy", "packed")


def test_a_bomb(path, monkeypatch):
    members = members_of(path)
    told = json.loads(members.pop("manifest.json"))
    members["schema.json"] = b" " * (1 << 28) + b" "
    write_zip(path, sealed(members, told), compress=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    refused(path, "", "packed|unpacks to more")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": "other"}, "the format is"),
        ({"format_version": 2}, "this release of sklearn_molge reads up to 1"),
        ({"format_version": True}, "version of the format is True"),
        ({"versions": 3}, "versions"),
    ],
)
def test_other_manifests(forge, manifest, message):
    refused(forge(manifest=manifest), "manifest.json", message)


@pytest.mark.parametrize(
    "manifest",
    [
        {"genes": [1]}, {"genes": "abc"}, {"scores": {"a": 1}}, {"scores": 1},
        {"n_genes": -1}, {"n_genes": "many"}, {"description": ["<b>"]},
    ],
)  # fmt: skip
def test_a_card_of_another_form(forge, manifest):
    with pytest.raises(CorruptFileError, match=r"manifest\.json"):
        describe_model(forge(manifest=manifest))


# -- damage --------------------------------------------------------------------------


def test_every_changed_byte_is_refused(path):
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    places = {0, 4, 10, 30, len(good) - 1, len(good) - 65, len(good) - 70}
    places |= set(rng.integers(len(good), size=300).tolist())
    for place in sorted(places):
        content = bytearray(good)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"model\.molge cannot be read"):
            load_model(path)


def test_the_changed_part_is_named(forge, path):
    members = members_of(path)
    members["arrays/0.npy"] = members["arrays/0.npy"][:-1] + b"\x07"
    write_zip(path, members)
    refused(path, "arrays/0.npy", "its checksum differs")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, "", "no model file|cut or damaged|zip")
    path.write_bytes(content + b"x")
    refused(path, "", ".")


@pytest.mark.parametrize(
    "dump", [pickle.dump, joblib.dump, partial(pickle.dump, protocol=0)]
)
def test_a_pickle_is_not_opened(path, dump):
    with open(path, "wb") as file:
        dump(Payload(), file)
    refused(path, "", "pickle|no model file")


def test_no_file(tmp_path):
    for read in (load_model, describe_model):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none.molge")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)


ABOUT, PROFILES = "background/about.json", "background/profiles.npy"


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


BARE = b'{"smiles": null, "genes": null}'


@pytest.mark.parametrize(
    "parts",
    [
        {ABOUT: b"[]"},
        {ABOUT: b"{"},
        {ABOUT: b'{"smiles": [1], "genes": null}'},
        {ABOUT: b'{"smiles": "CCO", "genes": null}'},
        {ABOUT: b'{"smiles": null, "genes": ["a"]}', PROFILES: npy(np.zeros((2, 2)))},
        {ABOUT: BARE, PROFILES: npy(np.zeros(2))},
        {ABOUT: BARE, PROFILES: npy(np.eye(2, dtype=int))},
        {ABOUT: BARE, PROFILES: npy(np.full((1, 1), np.inf))},
        {ABOUT: BARE, PROFILES: npy(np.eye(2))[:-8]},
        {ABOUT: BARE, PROFILES: npy(np.array([[None]]), allow_pickle=True)},
    ],
)  # fmt: skip
def test_a_forged_background(forge, parts):
    path = forge(parts=parts)
    with pytest.raises(CorruptFileError, match="background"):
        load_background(path)
