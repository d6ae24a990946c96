"""The training set: from what the user gives to batches that the towers read."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import skorch.dataset
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.utils.data import Dataset, Subset

from sklearn_molge._compat import _check_sample_weight
from sklearn_molge._utils.checks import check_same_rows
from sklearn_molge._utils.groups import encode_groups
from sklearn_molge._utils.rows import distinct_rows, factorize_texts, is_text
from sklearn_molge.alignment._batches import PairBatch, SampledBatch
from sklearn_molge.exceptions import DataWarning, InvalidSmilesError
from sklearn_molge.molecules import GraphBatch, MoleculeGraphs, check_smiles, drug_ids

Rows = NDArray[np.intp]


# -- what can be trained on ----------------------------------------------------------


def check_training_set(X: NDArray, y: NDArray, groups) -> None:
    """Refuse what no towers can be trained on, before any work is done."""
    check_same_rows(X=X, y=y)
    if len(X) < 2:
        raise ValueError(
            "CoordinatedEmbedder needs profiles of at least 2 drugs, to tell them "
            "apart. Got 1 sample."
        )
    check_resolution(y, name="y")
    if groups is not None:
        encode_groups(groups, X)
    if is_text(X):
        check_smiles(X)


def weighted_rows(X: NDArray, y: NDArray, groups, sample_weight):
    """Return rows and groups without the rows of weight 0, and the others' weights.

    These are relative to the largest one; None where all are equal.
    """
    check_same_rows(X=X, y=y)
    if sample_weight is None:
        return X, y, groups, None
    weights = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True
    )
    used = weights > 0
    if not used.all():
        if groups is not None:
            factors = encode_groups(groups, X)
            groups = np.column_stack([f.labels[f.codes] for f in factors])[used]
        X, y, weights = X[used], y[used], weights[used]
    equal = weights.min() == weights.max()
    return X, y, groups, None if equal else weights / weights.max()


def check_kind(X: NDArray, *, graphs: bool, features: bool) -> None:
    """Refuse features where a graph is needed, and SMILES where nothing reads them."""
    if graphs and not is_text(X):
        raise ValueError(
            "X must be SMILES for a tower with a graph network; for features pass "
            f"encoder=None. Got an array of shape {X.shape}."
        )
    if not graphs and not features and is_text(X):
        raise ValueError(
            "encoder=None is for features, and X is SMILES: pass molecule_features, or "
            "put a fingerprint transformer before this estimator."
        )


def split_rows(train_split, X: NDArray, y: NDArray, groups) -> tuple[Rows, Rows | None]:
    """Return the rows to train on, and those of the validation part if there is one."""
    rows = np.arange(len(X))
    if train_split is None:
        return rows, None
    if groups is None and getattr(train_split, "hold_out", None) == "drugs":
        groups = _drugs_alone(X)  # no cell line is looked at
    try:
        if hasattr(train_split, "split"):
            train, valid = next(iter(train_split.split(X, y, groups)))
        else:  # skorch's ValidSplit
            parts = train_split(rows, groups=groups)
            train, valid = (_indices_of(part, train_split) for part in parts)
    except ValueError as error:
        if groups is None and "groups" in str(error):
            raise ValueError(_NO_GROUPS.format(type(train_split).__name__)) from error
        raise
    train, valid = rows[train], rows[valid]
    for name, part in (("training", train), ("validation", valid)):
        if len(part) == 0:
            raise ValueError(
                "train_split must leave rows to both parts. "
                f"{type(train_split).__name__} leaves none to the {name} part."
            )
    return train, valid


def _drugs_alone(X: NDArray) -> NDArray:
    """Return groups of molecules whose cell lines are not known."""
    drugs = drug_ids(X) if is_text(X) else distinct_rows(X)[1]
    return np.column_stack([drugs, np.full(len(X), "unknown", dtype=object)])


def _indices_of(part, train_split):
    if not hasattr(part, "indices"):
        raise TypeError(
            "train_split must choose rows of X, and here it returned a "
            f"{type(part).__name__}. skorch's predefined_split holds rows of its own: "
            "append them to X, y and groups instead, and pass train_split="
            "sklearn.model_selection.PredefinedSplit(test_fold), where test_fold is 0 "
            "for them and -1 for the rows to train on."
        )
    return part.indices


def as_tensor(array: NDArray) -> Tensor:
    """Return an array as a tensor; a read-only one, as of a memory map, is copied."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


_NO_GROUPS = """\
train_split={} needs groups (drug and cell line of each row), and fit was given none. \
They reach fit as fit(X, y, groups=groups), and through a Pipeline's step "net" as \
fit(X, y, net__groups=groups). Inside cross_validate, add params={{"groups": groups}}, \
or {{"net__groups": groups}} for a Pipeline. Inside a search, set \
sklearn.set_config(enable_metadata_routing=True), make the search of \
embedder.set_fit_request(groups=True), and call search.fit(X, y, groups=groups)."""


# -- molecules -----------------------------------------------------------------------


@dataclass(frozen=True)
class MoleculeInputs:
    """Distinct molecules, ready for the molecule tower.

    Attributes
    ----------
    graphs : MoleculeGraphs or None
        Their graphs, of a tower with a graph network.
    features : Tensor of shape (n_molecules, n_features) or None
        Their features.
    """

    graphs: MoleculeGraphs | None
    features: Tensor | None

    @classmethod
    def prepare(
        cls, X: NDArray, *, mode: str | None, features
    ) -> tuple["MoleculeInputs", Rows]:
        """Prepare each distinct molecule once; return them, and which each row is.

        Parameters
        ----------
        X : ndarray of shape (n_samples,) or (n_samples, n_features)
            SMILES or features.
        mode : str or None
            Atom features of the graphs; None makes none.
        features : transformer or None
            Fitted; None takes features as they are.
        """
        check_kind(X, graphs=mode is not None, features=features is not None)
        if is_text(X):
            if mode is None:  # the graphs find bad entries themselves
                check_smiles(X, wildcards=True)
            index, distinct = factorize_texts(X)
        else:
            rows, index = distinct_rows(X)
            distinct = X[rows]
        graphs = None if mode is None else _graphs_of(X, index, distinct, mode)
        if features is not None:
            return cls(graphs, as_feature_tensor(features.transform(distinct))), index
        return cls(graphs, None if is_text(X) else as_feature_tensor(distinct)), index

    def __len__(self) -> int:
        return max(len(p) for p in (self.graphs, self.features) if p is not None)

    @property
    def nbytes(self) -> int:
        """Memory of graphs and features."""
        parts = (self.graphs, self.features)
        return sum(part.nbytes for part in parts if part is not None)

    def take(self, indices) -> tuple[GraphBatch | None, Tensor | None]:
        """Return graphs and features of some molecules as one batch."""
        graphs = None if self.graphs is None else self.graphs.take(indices)
        if self.features is None:
            return graphs, None
        return graphs, self.features[torch.as_tensor(indices)]


def check_resolution(rows: NDArray, *, name: str) -> None:
    """Refuse numbers of which float32 keeps nothing; warn where it keeps little."""
    lowest, highest = rows.min(axis=0), rows.max(axis=0)
    largest = np.maximum(np.abs(lowest), np.abs(highest))
    if largest.max() > _LARGEST:
        raise ValueError(
            f"{name} must not be above {_LARGEST:.2g}, or differences overflow "
            f"float32. Got {largest.max():.4g}: scale it."
        )
    steps = np.spacing(largest)
    if len(rows) > 1 and np.all(lowest == highest):
        raise ValueError(
            f"{name} must vary: in float32, whose steps are {steps.max():.2g} at "
            f"{largest.max():.4g}, its {len(largest):,} column(s) are constant in the "
            f"{len(rows):,} rows. Centre and scale it if it varies by less."
        )
    n_coarse = np.count_nonzero((highest - lowest < _N_STEPS * steps) & (steps > 0))
    n_coarse -= np.count_nonzero((highest == lowest) & (steps > 0))
    if n_coarse:
        warnings.warn(
            f"{n_coarse:,} of the {len(largest):,} columns of {name} vary by less than "
            f"{_N_STEPS} of float32's steps at their size, and are rounded to these: "
            "centre them.",
            DataWarning,
            stacklevel=5,
        )


# Differences of two and sums of a few must not overflow.
_LARGEST = float(np.finfo(np.float32).max) / 64
_N_STEPS = 32


def as_feature_tensor(features) -> Tensor:
    """Return features of molecules as a tensor; refuse what are no numbers."""
    features = features.toarray() if hasattr(features, "toarray") else features
    return as_tensor(
        check_array(features, dtype=np.float32, input_name="features of X")
    )


def _graphs_of(X, index, distinct, mode) -> MoleculeGraphs:
    try:
        return MoleculeGraphs.from_smiles(distinct, mode=mode)
    except InvalidSmilesError as error:
        bad = np.flatnonzero(np.isin(index, error.indices))
        reasons = dict(zip(error.indices, error.reasons, strict=False))
        known = [reasons.get(code) for code in index[bad]]
        raise InvalidSmilesError(bad.tolist(), X[bad].tolist(), known) from None


# -- pairs ---------------------------------------------------------------------------


class PairDataset(skorch.dataset.Dataset):
    """Rows of (molecule, profile), with the molecules stored once each.

    Parameters
    ----------
    X : ndarray of shape (n_samples,) or (n_samples, n_features)
        The molecules as the caller gave them.
    y : ndarray of shape (n_samples, n_genes), float32
        The profiles. skorch's callbacks find them, and X, under these names.
    molecules : MoleculeInputs
        The distinct molecules.
    molecule_of : ndarray of shape (n_samples,)
        The molecule of each row.
    drugs : ndarray of shape (n_samples,)
        Drug of each row, as codes.
    cell_lines : ndarray of shape (n_samples,) or None
        Cell line of each row, as codes.
    train, valid : ndarray of int, or None
        The rows to train on, all by default, and those of a validation part.
    weights : ndarray of shape (n_samples,), default=None
        Weight of each row, up to 1; None where all are equal.
    """

    def __init__(
        self,
        X: NDArray,
        y: NDArray,
        molecules: MoleculeInputs,
        molecule_of: Rows,
        drugs: Rows,
        cell_lines: Rows | None = None,
        train: Rows | None = None,
        valid: Rows | None = None,
        weights: NDArray[np.float64] | None = None,
    ):
        self.X, self.y = X, y
        self.profiles = as_tensor(y)
        self.molecules = molecules
        self.molecule_of = molecule_of
        self.drugs = drugs
        self.cell_lines = cell_lines
        self.train = np.arange(len(X)) if train is None else train
        self.valid = valid
        self.weights = weights
        # Drugs with equal features are one input, but not one molecule of a batch.
        self._n_drugs = int(drugs.max()) + 1
        self._pairs = molecule_of * self._n_drugs + drugs

    @classmethod
    def prepare(
        cls,
        X: NDArray,
        y: NDArray,
        groups=None,
        *,
        mode,
        features,
        split=(None, None),
        weights=None,
    ) -> "PairDataset":
        """Prepare the pairs; see :meth:`MoleculeInputs.prepare`.

        Drugs and cell lines are those of `groups`; without it, drugs are told apart by
        their structure, and features by equal rows.
        """
        molecules, index = MoleculeInputs.prepare(X, mode=mode, features=features)
        drugs, cell_lines = index, None
        if groups is not None:
            drugs, cell_lines = (factor.codes for factor in encode_groups(groups, X))
        elif is_text(X):
            drugs = pd.factorize(drug_ids(X))[0]
        train, valid = split
        return cls(X, y, molecules, index, drugs, cell_lines, train, valid, weights)

    def __len__(self) -> int:
        return len(self.molecule_of)

    def __getitem__(self, row: int) -> PairBatch:
        return self.take(SampledBatch(np.array([row])))

    def __getitems__(self, sampled: SampledBatch) -> PairBatch:
        return self.take(sampled)

    def take(self, sampled: SampledBatch) -> PairBatch:
        """Return one batch, with each of its molecules once."""
        rows, triplets = sampled.profiles, sampled.triplets
        pairs, index = np.unique(self._pairs[rows], return_inverse=True)
        molecules, drugs = np.divmod(pairs, self._n_drugs)
        graphs, features = self.molecules.take(molecules)
        return PairBatch(
            graphs,
            features,
            profiles=self.profiles[torch.from_numpy(rows)],
            molecule_index=torch.from_numpy(index),
            molecule_drugs=torch.from_numpy(drugs),
            triplets=None if triplets is None else triplets.map(torch.from_numpy),
        )

    def split(self) -> tuple[Dataset, Dataset | None]:
        """Return the rows to train on and the validation part."""
        if self.valid is None:
            return self, None
        return Subset(self, self.train.tolist()), Subset(self, self.valid.tolist())

    @property
    def nbytes(self) -> int:
        """Memory of profiles and molecules."""
        return self.profiles.nbytes + self.molecules.nbytes

    def move(self, device: str | torch.device) -> None:
        """Put profiles and features on a device, for good.

        Graphs stay: a batch of them is made on the CPU while the device computes.
        """
        self.profiles = self.profiles.to(device)
        graphs, features = self.molecules.graphs, self.molecules.features
        if features is not None:
            self.molecules = MoleculeInputs(graphs, features.to(device))


def rows_of(dataset: Dataset) -> tuple[PairDataset, Rows]:
    """Return the whole dataset and the rows that `dataset`, or a Subset, is."""
    if isinstance(dataset, Subset):
        whole, rows = rows_of(dataset.dataset)
        return whole, rows[np.asarray(dataset.indices)]
    if not isinstance(dataset, PairDataset):
        raise TypeError(f"a PairDataset is needed, got {type(dataset).__name__}")
    return dataset, np.arange(len(dataset))


# -- batches -------------------------------------------------------------------------


class EpochBatches:
    """Batches of a sampler as torch's DataLoader takes them, one epoch after another.

    Each epoch draws from its own generator, seeded by (seed, epoch): a run that is
    resumed sees the batches that it would have seen. ``epoch=None`` draws the same
    batches each time, for validation, whatever the weights. Otherwise, where rows have
    weights, each epoch is of the rows that it drew.

    Parameters
    ----------
    sampler : sampler
        Not yet prepared.
    dataset : PairDataset or Subset of it
        Where the rows come from.
    seed : int
        Seed of the training.
    epoch : int or None
        Number of the first epoch.
    """

    batch_size = None  # accelerate asks for it; None means that batches differ in size
    drop_last = False

    def __init__(self, sampler, dataset: Dataset, *, seed: int, epoch: int | None):
        self.whole, self.rows = rows_of(dataset)
        self.sampler = self._prepared(sampler, self.rows)
        self.seed, self.epoch = seed, epoch

    def _prepared(self, sampler, rows: Rows):
        whole = self.whole
        _, first, drugs = np.unique(
            whole.drugs[rows], return_index=True, return_inverse=True
        )
        cell_lines = whole.cell_lines
        return sampler.prepare(
            drugs,
            profiles=whole.profiles[torch.from_numpy(rows)].cpu().numpy(),
            cell_lines=None if cell_lines is None else cell_lines[rows],
            molecules=whole.X[rows[first]],
        )

    def __len__(self) -> int:
        return self.sampler.n_batches_

    def __iter__(self) -> Iterator[SampledBatch]:
        epoch = () if self.epoch is None else (self.epoch,)
        rng = np.random.default_rng([self.seed, *epoch])
        sampler, rows = self.sampler, self.rows
        if self.epoch is not None:
            self.epoch += 1
            if self.whole.weights is not None:
                rows = self._drawn_rows(self.whole.weights[self.rows], rng)
                sampler = self._prepared(sampler, rows)
        for batch in sampler.epoch(rng):
            yield SampledBatch(rows[batch.profiles], batch.triplets)

    def _drawn_rows(self, weights: NDArray, rng: np.random.Generator) -> Rows:
        """Draw each row with its weight, and of two drugs at least."""
        drugs = self.whole.drugs[self.rows]
        drawn = rng.random(len(self.rows)) < weights / weights.max()
        others = drugs != drugs[np.argmax(weights)]
        if not drawn[others].any():
            drawn[np.argmax(np.where(others, weights, 0))] = True
        return self.rows[drawn]
