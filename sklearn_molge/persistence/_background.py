"""The background in a model file: profiles and molecules that answers are judged by."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._utils.genes import gene_names
from sklearn_molge._utils.views import fitted_gene_names
from sklearn_molge.expression import align_profiles
from sklearn_molge.molecules import check_smiles
from sklearn_molge.persistence._container import (
    BACKGROUND_ABOUT,
    BACKGROUND_PROFILES,
    read_model_file,
)

__all__ = ["ModelBackground", "background_parts", "load_background", "told_of"]

# Percentiles of 2,000 profiles are known within 2.2 points (95 %).
MOST_PROFILES = 2000
MOST_MOLECULES = 200_000


@dataclass(frozen=True, eq=False)
class ModelBackground:
    """What :func:`load_background` found in a model file.

    Attributes
    ----------
    smiles : ndarray of shape (n_molecules,), dtype=object, or None
        Distinct molecules that the model was trained on.
    profiles : DataFrame or ndarray of shape (n_profiles, n_genes), or None
        Profiles of the background; their columns are genes where these have names.
    """

    smiles: NDArray[np.object_] | None
    profiles: pd.DataFrame | NDArray[np.floating] | None


def background_parts(estimator: Any, background: Any) -> dict[str, bytes]:
    """Return the parts of a file for what the user gave to `save_model`.

    Raises
    ------
    ValueError
        If it is neither a study nor a pair, or of other genes than the estimator's.
    InvalidSmilesError
        With index and text of every bad entry of the molecules.
    """
    X, y = _pair_of(background)
    smiles = None if X is None else np.unique(check_smiles(X)).tolist()
    if smiles is not None and len(smiles) > MOST_MOLECULES:
        raise ValueError(
            f"background must have at most {MOST_MOLECULES:,} distinct molecules. "
            f"Got {len(smiles):,}."
        )
    parts: dict[str, bytes] = {}
    genes = None
    if y is not None:
        profiles, genes = _profiles(estimator, y)
        buffer = BytesIO()
        np.save(buffer, profiles, allow_pickle=False)
        parts[BACKGROUND_PROFILES] = buffer.getvalue()
    about = json.dumps({"smiles": smiles, "genes": genes}, separators=(",", ":"))
    return {BACKGROUND_ABOUT: about.encode(), **parts}


def _pair_of(background: Any) -> tuple[Any, Any]:
    if hasattr(background, "smiles") and callable(
        getattr(background, "profiles", None)
    ):
        return background.smiles, background.profiles()
    is_pair = isinstance(background, tuple | list) and len(background) == 2
    if not is_pair or all(part is None for part in background):
        raise ValueError(
            "background must be a Study, or a pair (X, y) of SMILES and profiles, one "
            f"of which may be None. Got {type(background).__name__}."
        )
    return background[0], background[1]


def _profiles(estimator: Any, y: Any) -> tuple[NDArray[np.floating], list[str] | None]:
    """Return a sample of profiles with the genes of the estimator, and their names."""
    try:
        fitted = list(map(str, fitted_gene_names(estimator)))
    except ValueError:
        fitted = []
    if fitted and gene_names(y) is not None:
        y = align_profiles(y, estimator)
    names = gene_names(y)
    values = np.asarray(y)
    if values.dtype != np.float64:
        values = values.astype(np.float32)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            "the profiles of background must be a table of finite numbers. Got shape "
            f"{values.shape}, of which {np.isfinite(values).sum():,} are finite."
        )
    if fitted and values.shape[1] != len(fitted):
        raise ValueError(
            f"the profiles of background must have the {len(fitted):,} genes of the "
            f"estimator. Got {values.shape[1]:,}."
        )
    if len(values) > MOST_PROFILES:
        rng = np.random.default_rng(0)  # the same of equal studies
        values = values[np.sort(rng.choice(len(values), MOST_PROFILES, replace=False))]
    found = fitted or (None if names is None else list(map(str, names)))
    return np.ascontiguousarray(values), found


def told_of(parts: Mapping[str, bytes]) -> dict[str, int]:
    """Return what the manifest says of parts: how many profiles and molecules."""
    if BACKGROUND_ABOUT not in parts:
        return {}
    found = _of_parts(parts)
    n_profiles = 0 if found.profiles is None else len(found.profiles)
    n_molecules = 0 if found.smiles is None else len(found.smiles)
    return {
        "n_background_profiles": n_profiles,
        "n_background_molecules": n_molecules,
    }


def _of_parts(parts: Mapping[str, bytes]) -> ModelBackground:
    about = json.loads(parts[BACKGROUND_ABOUT])
    if not isinstance(about, dict) or about.keys() != {"smiles", "genes"}:
        raise ValueError("it does not name smiles and genes")
    for name, texts in about.items():
        is_list = isinstance(texts, list) and all(isinstance(t, str) for t in texts)
        if texts is not None and not is_list:
            raise ValueError(f"{name} are no texts")
    smiles, genes, profiles = about["smiles"], about["genes"], None
    if BACKGROUND_PROFILES in parts:
        file = BytesIO(parts[BACKGROUND_PROFILES])
        profiles = np.load(file, allow_pickle=False)
        if profiles.ndim != 2 or profiles.dtype not in (np.float32, np.float64):
            raise ValueError(f"profiles are {profiles.ndim}-D of {profiles.dtype}")
        if not np.isfinite(profiles).all():
            raise ValueError("profiles are not finite")
        if genes is not None:
            if profiles.shape[1] != len(genes):
                raise ValueError(
                    f"there are {len(genes):,} names of {profiles.shape[1]:,} genes"
                )
            profiles = pd.DataFrame(profiles, columns=pd.Index(genes, dtype=object))
    known = None if smiles is None else np.array(smiles, dtype=object)
    return ModelBackground(known, profiles)


@validate_params({"path": [str, os.PathLike]}, prefer_skip_nested_validation=True)
def load_background(path: str | os.PathLike[str]) -> ModelBackground | None:
    """Read the background of a model file, by which answers of an index are judged.

    Parameters
    ----------
    path : path-like
        A file of :func:`save_model`.

    Returns
    -------
    background : ModelBackground or None
        With ``smiles`` and ``profiles``, for
        :meth:`MoleculeIndex.calibrate
        <sklearn_molge.library.MoleculeIndex.calibrate>`; None where the file has none.

    Raises
    ------
    CorruptFileError
        If the file is cut, changed or no model file: with the part of the file.
    FileNotFoundError
        If it is not there.

    See Also
    --------
    save_model : Writes it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.library import MoleculeIndex
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.persistence import load_background, save_model
    >>> study = make_perturbation_study(20, n_cell_lines=1, n_genes=12, random_state=0)
    >>> pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    >>> pipe = pipe.fit(study.smiles, study.profiles())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cca.molge")
    ...     save_model(pipe, path, background=study)
    ...     background = load_background(path)
    >>> background.profiles.shape == study.ge.shape, len(background.smiles)
    (True, 20)
    >>> index = MoleculeIndex(pipe).fit(study.smiles)
    >>> index = index.calibrate(background.smiles, background.profiles)
    """
    _, parts, _ = read_model_file(path)
    if BACKGROUND_ABOUT not in parts:
        return None
    with reading(path, "background"):
        return _of_parts(parts)
