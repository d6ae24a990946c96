"""From what the user gives to what the towers read."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_array

from sklearn_molge._utils.rows import distinct_rows, is_text
from sklearn_molge.alignment._pairs import MoleculeInputs, PairDataset
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.model_selection._groups import encode_groups
from sklearn_molge.molecules import MoleculeGraphs, check_smiles, drug_ids


def check_training_set(net: Any, X: NDArray, y: NDArray, groups: Any) -> None:
    """Refuse what the towers cannot be trained on, before any work is done."""
    check_consistent_length(X, y)
    if len(X) < 2:
        raise ValueError(
            f"{type(net).__name__} needs profiles of at least 2 drugs, to tell them "
            "apart. Got 1 sample."
        )
    if groups is not None:
        encode_groups(groups, X)
    check_kind(X, encoder=net.encoder, features=net.molecule_features)
    if is_text(X):
        check_smiles(X)


def check_kind(X: NDArray, *, encoder: Any, features: Any) -> None:
    """Refuse features where a graph is needed, and SMILES where nothing reads them."""
    if encoder is not None and not is_text(X):
        raise ValueError(
            "X must be SMILES for a tower with a graph network; for features pass "
            f"encoder=None. Got an array of shape {X.shape}."
        )
    if encoder is None and features is None and is_text(X):
        raise ValueError(
            "encoder=None is for features, and X is SMILES: pass molecule_features, or "
            "put a fingerprint transformer before this estimator."
        )


def split_rows(
    net: Any, X: NDArray, y: NDArray, groups: Any
) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
    """Return the rows to train on, and those of the validation part if there is one."""
    rows = np.arange(len(X))
    if net.train_split is None:
        return rows, None
    if hasattr(net.train_split, "split"):
        train, valid = next(iter(net.train_split.split(X, y, groups)))
    else:  # skorch's ValidSplit
        parts = net.train_split(rows, groups=groups)
        train, valid = (part.indices for part in parts)
    return rows[train], rows[valid]


def molecule_inputs(net: Any, X: NDArray) -> tuple[MoleculeInputs, NDArray[np.intp]]:
    """Prepare each distinct molecule of X once; return them and which each row is."""
    check_kind(X, encoder=net.encoder_mode_, features=net.molecule_features_)
    if is_text(X):
        if net.encoder_mode_ is None:  # the graphs find bad entries themselves
            check_smiles(X)
        index, distinct = pd.factorize(X, use_na_sentinel=False)
    else:
        rows, index = distinct_rows(X)
        distinct = X[rows]
    graphs = features = None
    if net.encoder_mode_ is not None:
        graphs = _graphs_of(X, index, distinct, net.encoder_mode_)
    if net.molecule_features_ is not None:
        features = net.molecule_features_.transform(distinct)
    elif not is_text(X):
        features = distinct
    if features is not None:
        features = features.toarray() if hasattr(features, "toarray") else features
        features = check_array(features, dtype=np.float32, input_name="features of X")
        features = as_tensor(features)
    return MoleculeInputs(graphs, features), index


def as_tensor(array: NDArray) -> torch.Tensor:
    """Return an array as a tensor; a read-only one, as of a memory map, is copied."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _graphs_of(X: NDArray, index: NDArray, distinct: NDArray, mode: str):
    try:
        return MoleculeGraphs.from_smiles(distinct, mode=mode)
    except InvalidSmilesError as error:
        bad = np.flatnonzero(np.isin(index, error.indices))
        raise InvalidSmilesError(bad.tolist(), X[bad].tolist()) from None


def fit_features(net: Any, X: NDArray) -> Any:
    """Return `molecule_features` fitted on the distinct molecules, None without."""
    if net.molecule_features is None:
        return None
    distinct = pd.unique(X) if is_text(X) else np.unique(X, axis=0)
    return clone(net.molecule_features).fit(distinct)


def build_dataset(net: Any, X: NDArray, y: NDArray, groups: Any) -> PairDataset:
    """Prepare the training set."""
    molecules, index = molecule_inputs(net, X)
    drugs, cell_lines, labels = _identify(X, index, groups)
    return PairDataset(
        X=X,
        molecules=molecules,
        molecule_of=index,
        drugs=drugs,
        profiles=as_tensor(y),
        groups=labels,
        cell_lines=cell_lines,
    )


def _identify(X: NDArray, index: NDArray, groups: Any):
    """Return codes of drugs and of cell lines, and the labels of both."""
    if groups is not None:
        drug, cell_line = encode_groups(groups, X)
        labels = np.column_stack(
            [factor.labels[factor.codes] for factor in (drug, cell_line)]
        )
        return drug.codes, cell_line.codes, labels
    if is_text(X):
        return pd.factorize(drug_ids(X))[0], None, None
    return index, None, None
