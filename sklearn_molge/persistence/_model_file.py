"""save_model and load_model: a fitted estimator in one file, without pickle."""

import datetime
import json
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from sklearn_molge._compat import validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._utils.messages import first_few, printable
from sklearn_molge.exceptions import (
    CorruptFileError,
    ModelVersionWarning,
    UnstorableModelError,
)
from sklearn_molge.persistence._background import background_parts, told_of
from sklearn_molge.persistence._card import check_scores, facts_of
from sklearn_molge.persistence._container import (
    SCHEMA,
    TENSORS,
    of_model,
    read_model_file,
    write_model_file,
)
from sklearn_molge.persistence._encoding import Decoder, Encoder, import_skops
from sklearn_molge.persistence._trust import check_schema

__all__ = ["load_model", "save_model"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "rdkit", "skops")
# Whose minor releases may change answers.
_COMPARED = ("sklearn_molge", "scikit-learn", "rdkit", "torch")
_KEPT = ("__class__", "__module__", "__loader__", "content", "key_types", "type",
         "file")  # fmt: skip


@validate_params(
    {
        "path": [str, os.PathLike],
        "description": [str, None],
        "training_data": [str, None],
        "data_licence": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def save_model(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    description: str | None = None,
    training_data: str | None = None,
    scores: Any = None,
    data_licence: str | None = None,
    background: Any = None,
) -> None:
    """Write an estimator to one file that others can open without running code.

    The file is a zip of JSON, arrays of numpy and tensors (safetensors). It names
    classes of scikit-learn, of torch and of this library, and holds their attributes;
    it has no pickle, and no function of yours. See :ref:`model-files`.

    Parameters
    ----------
    estimator : estimator
        Fitted, such as a Pipeline, a :class:`~sklearn_molge.alignment.CCA` or what
        :func:`~sklearn_molge.retrieval.recommended_pipeline` made.
    path : path-like
        The file; ``.molge`` is the usual suffix. What is there is replaced, whole or
        not at all.
    description : str or None, default=None
        What the model is for.
    training_data : str or None, default=None
        What it was trained on.
    scores : mapping, DataFrame or None, default=None
        How good it is: names of scores, each with a number or with a number and its
        interval, ``{"mrr": (0.21, 0.18, 0.24)}``; or a table with the columns "score",
        "low" and "high" as :func:`~sklearn_molge.metrics.bootstrap_scores` returns.
    data_licence : str or None, default=None
        Licence of the training data, such as "CC-BY-4.0". Fitted models may hold
        profiles and molecules.
    background : Study, pair (X, y) or None, default=None
        Molecules (SMILES) and profiles of the training set, by which an index judges
        its answers (:meth:`MoleculeIndex.calibrate
        <sklearn_molge.library.MoleculeIndex.calibrate>`); X or y may be None. The file
        then **holds measured profiles**, at most 2,000, drawn at random (the same of
        equal data), and all distinct molecules; its card says so.
        :func:`load_background` reads them.

    Raises
    ------
    UnstorableModelError
        If a part of the estimator cannot be stored so, such as a lambda or a class of
        your own: with its place and what to do. Nothing is written.
    ValueError
        If `scores` is something else, or `background` has other genes than the
        estimator, values that are not finite, or more than 200,000 molecules.
    InvalidSmilesError
        If a molecule of `background` cannot be read.

    See Also
    --------
    load_model : Opens the file.
    load_background : Reads the background.
    describe_model : Says what a file is, without building anything of it.

    Notes
    -----
    Outputs of the loaded model equal those of the saved one to the bit, with the same
    versions on the same kind of machine. A network can be trained further, but the
    state of its optimizer and callbacks is not in the file. Some models hold their
    training set: nearest neighbours all profiles, a Gaussian process its molecules,
    and most estimators hashes of the rows of `fit`, by which leaks are noticed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.persistence import describe_model, load_model, save_model
    >>> study = make_perturbation_study(20, n_cell_lines=1, n_genes=12, random_state=0)
    >>> pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    >>> pipe = pipe.fit(study.smiles, study.ge)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cca.molge")
    ...     save_model(pipe, path, data_licence="CC0-1.0", scores={"mrr": 0.4})
    ...     loaded = load_model(path)
    ...     card = describe_model(path)
    >>> bool((loaded.transform(["CCO"]) == pipe.transform(["CCO"])).all())
    True
    >>> card.data_licence, card.n_genes
    ('CC0-1.0', 12)
    """
    scored = check_scores(scores)
    if not isinstance(estimator, BaseEstimator):
        what = f"a {type(estimator).__qualname__}, and no estimator of scikit-learn's"
        raise UnstorableModelError("estimator", what)
    told = {} if background is None else background_parts(estimator, background)
    encoder = Encoder()
    made = encoder.encode(estimator, "estimator")
    parts = _parts(made)
    if encoder.tensors:
        from safetensors.torch import save

        parts[TENSORS] = save(encoder.tensors)
    manifest = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "description": description,
        "training_data": training_data,
        "data_licence": data_licence,
        "scores": scored,
        **facts_of(estimator),
        **told_of(told),
        "versions": _versions(bool(encoder.tensors)),
    }
    write_model_file(path, manifest, parts | told)


@validate_params({"path": [str, os.PathLike]}, prefer_skip_nested_validation=True)
def load_model(path: str | os.PathLike[str]) -> Any:
    """Open a file of :func:`save_model`; no code in it is run, whoever wrote it.

    Every checksum is compared, and every name in the file with a list of what a model
    may consist of, before anything is built. Nothing is unpickled.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    estimator : estimator
        As it was saved.

    Raises
    ------
    CorruptFileError
        If the file is cut, changed or no model file, or names a class or function that
        is no part of a model: with the part of the file.
    FileNotFoundError
        If it is not there.

    Warns
    -----
    ModelVersionWarning
        If it was written with another minor release of sklearn_molge, scikit-learn or
        RDKit, or of torch where it holds a network.

    See Also
    --------
    save_model : Writes it.

    Notes
    -----
    Checksums tell damage. Who changes a file and computes them again can make a model
    that answers wrongly, as can who trains one: take models from people that you
    trust to be right; to be harmless they need not be trusted.
    """
    manifest, parts, file = read_model_file(path)
    with reading(path, SCHEMA):
        schema = json.loads(parts[SCHEMA])
        trusted = check_schema(schema, of_model(parts) - {SCHEMA, TENSORS})
    tensors = {}
    if TENSORS in parts:
        from safetensors.torch import load

        with reading(path, TENSORS):
            tensors = load(parts[TENSORS])
    versions = manifest.get("versions")
    if not isinstance(versions, dict):
        raise CorruptFileError(path, "manifest.json", "it names no versions")
    _compare_versions(path, versions)
    skops = import_skops()
    with reading(path, SCHEMA), warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)  # said already
        made = skops.load(file, trusted=sorted(trusted))
        return Decoder(tensors).decode(made)


# -- what skops wrote ----------------------------------------------------------------


def _parts(made: Any) -> dict[str, bytes]:
    """Return schema and arrays of skops, named by their order and not by chance."""
    buffer = BytesIO()
    import_skops().dump(made, buffer)
    with ZipFile(buffer) as archive:
        schema = json.loads(archive.read(SCHEMA))
        numbering = _Numbering(schema)
        root = {**numbering.node(schema), "protocol": schema["protocol"]}
        parts = {new: archive.read(old) for old, new in numbering.files.items()}
    check_schema(root, parts.keys())
    return {SCHEMA: json.dumps(root, separators=(",", ":")).encode(), **parts}


class _Numbering:
    """Numbers objects that are there more than once, and writes them once."""

    def __init__(self, schema: dict[str, Any]):
        self.counts: dict[int, int] = {}
        self.numbers: dict[int, int] = {}
        self.files: dict[str, str] = {}
        self._count(schema)

    def _count(self, node: dict[str, Any]) -> None:
        found = self.counts[node["__id__"]] = self.counts.get(node["__id__"], 0) + 1
        if found == 1:
            for child in _children(node):
                self._count(child)

    def node(self, node: dict[str, Any]) -> dict[str, Any]:
        """Return a node as the file has it."""
        kept = {key: node[key] for key in _KEPT if key in node}
        if node["__loader__"] == "JsonNode":
            return kept
        own = node["__id__"]
        if own in self.numbers:
            names = {key: node[key] for key in ("__class__", "__module__")}
            return {**names, "__loader__": "CachedNode", "__id__": self.numbers[own]}
        if "key_types" in kept:
            kept["key_types"] = _without_ids(kept["key_types"])
        if "file" in kept:
            new = f"arrays/{len(self.files)}.npy"
            kept["file"] = self.files.setdefault(kept["file"], new)
        elif isinstance(kept.get("content"), list):
            kept["content"] = [self.node(child) for child in kept["content"]]
        elif node["__loader__"] == "ObjectNode":
            kept["content"] = self.node(kept["content"])
        else:
            kept["content"] = {k: self.node(v) for k, v in kept["content"].items()}
        if self.counts[own] > 1:  # after its parts: a number is of what is complete
            kept["__id__"] = self.numbers[own] = len(self.numbers) + 1
        return kept


def _children(node: dict[str, Any]) -> list[dict[str, Any]]:
    content = node.get("content")
    if node["__loader__"] == "ObjectNode":
        return [content] if content else []
    if isinstance(content, dict):
        return list(content.values())
    return content if isinstance(content, list) else []


def _without_ids(node: dict[str, Any]) -> dict[str, Any]:
    types = [
        {key: kind[key] for key in _KEPT if key in kind} for kind in node["content"]
    ]
    return {**{key: node[key] for key in _KEPT if key in node}, "content": types}


# -- versions ------------------------------------------------------------------------


def _versions(has_tensors: bool) -> dict[str, str]:
    import sklearn_molge

    packages = [*_PACKAGES, *(("torch", "safetensors") if has_tensors else ())]
    found = {
        "python": platform.python_version(),
        "sklearn_molge": sklearn_molge.__version__,
    }
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # as of rdkit from conda
            module = sys.modules.get(package)
            found[package] = str(getattr(module, "__version__", "unknown"))
    return found


def _compare_versions(path, told: Mapping[str, Any]) -> None:
    here = _versions("torch" in told)
    other = [
        f"{package} {told[package]} (here {here[package]})"
        for package in _COMPARED
        if package in told and _minor(told[package]) != _minor(here[package])
    ]
    if other:
        listed = first_few(other, write=printable)
        warnings.warn(
            f"{os.fspath(path)} was written with {listed}: the model may "
            "answer differently here, or fail. Compare an answer with one of its "
            "author's, or install those versions.",
            ModelVersionWarning,
            stacklevel=4,
        )


def _minor(text: Any) -> list[str]:
    return str(text).split(".")[:2]
