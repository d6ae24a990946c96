"""Callbacks of every training: scores of the validation part, and a checkpoint."""

from os import PathLike
from pathlib import Path
from pickle import UnpicklingError

import joblib
import numpy as np
import torch
from skorch.callbacks import Callback

from sklearn_molge._files.replacing import replacing
from sklearn_molge._utils.identity import NotImportableError, describe
from sklearn_molge._utils.rows import distinct_rows, group_means
from sklearn_molge.alignment._dataset import rows_of
from sklearn_molge.alignment._plain import as_plain, from_plain, is_plain
from sklearn_molge.base import one_row_per_drug
from sklearn_molge.metrics import mean_reciprocal_rank, rank_embeddings

_SCORES = ("valid_mrr", "valid_mrr_drug")
# What changes nothing about the trained weights.
_NOT_PART_OF_A_RUN = {"checkpoint_folder", "verbose"}
_FORMAT = 1
_PARTS = ("module_", "criterion_", "optimizer_")


class RetrievalScoring(Callback):
    """Record the mean reciprocal rank on the validation part after each epoch.

    The history gets ``valid_mrr`` (each profile is a query) and ``valid_mrr_drug``
    (each drug is, its profiles averaged in the joint space), each with ``..._best``,
    as skorch's EarlyStopping and Checkpoint expect it. Candidates are the drugs of the
    validation part. Without a validation part nothing is recorded.
    """

    def initialize(self):
        """Forget the best scores."""
        self.best_ = dict.fromkeys(_SCORES, -np.inf)
        return self

    def on_train_begin(self, net, **kwargs):
        """Remember the best scores of the epochs that a training goes on from."""
        for key in _SCORES:
            scores = [epoch[key] for epoch in net.history if key in epoch]
            self.best_[key] = max(scores, default=-np.inf)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Rank the validation profiles and record the scores."""
        if dataset_valid is None:
            return
        scores = self.score(net, dataset_valid)
        for key, score in zip(_SCORES, scores, strict=True):
            net.history.record(key, score)
            net.history.record(f"{key}_best", score > self.best_[key])
            self.best_[key] = max(score, self.best_[key])

    def score(self, net, dataset) -> tuple[float, float]:
        """Return the mean reciprocal rank of some rows, by profile and by drug."""
        whole, rows = rows_of(dataset)
        drugs = whole.drugs[rows]
        texts = distinct_rows(whole.X[rows])[1]
        gallery_drugs, first = one_row_per_drug(drugs, texts, None)
        match = np.searchsorted(gallery_drugs, drugs)
        gallery = net._project_molecules(
            whole.molecules, whole.molecule_of[rows[first]]
        )
        queries = net._project_profiles(whole.profiles[rows])
        means, own = group_means(queries, match), np.arange(len(first))
        by_profile = rank_embeddings(queries, gallery, match, metric=net.metric)
        by_drug = rank_embeddings(means, gallery, own, metric=net.metric)
        return mean_reciprocal_rank(by_profile), mean_reciprocal_rank(by_drug)


class TrainingCheckpoint(Callback):
    """Keep the state of one training in one file of a folder, to go on from it.

    The file's name is a hash of parameters and data, so that folds and searches can
    share a folder and each run finds its own. A kill leaves the old file or the new
    one. It is removed when the training ends, and read without executing code in it.
    It stands after all other callbacks, whose state it keeps.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    """

    def __init__(self, folder: str | PathLike[str]):
        self.folder = folder

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Go back to the state in the file of this training, if there is one."""
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path_ = folder / f"{self._identity(net, X)}.pt"
        self.end_ = len(net.history) + net.max_epochs
        if self.path_.exists():
            self._restore(net)
        self.written_ = len(net.history)

    def on_epoch_end(self, net, **kwargs):
        """Write the state."""
        state = {
            "format": _FORMAT,
            "seed": net.seed_,
            "history": net.history.to_list(),
            "callbacks": {n: _state_of(vars(cb)) for n, cb in self._others(net)},
            "trainable": [p.requires_grad for _, p in net.get_all_learnable_params()],
            **{part: getattr(net, part).state_dict() for part in _PARTS},
        }
        with replacing(self.path_) as draft:
            torch.save(as_plain(state), draft)
        self.written_ = len(net.history)

    def on_train_end(self, net, **kwargs):
        """Remove the file, unless the user interrupted."""
        if self.written_ >= self.end_ or net._has_stopped_early() or net._diverged:
            self.path_.unlink(missing_ok=True)

    def _others(self, net):
        return [(name, cb) for name, cb in net.callbacks_ if cb is not self]

    def _identity(self, net, dataset) -> str:
        """Hash of everything that decides the trained weights."""
        given = sorted(net.get_params(deep=False).items())
        try:
            params = {k: describe(v) for k, v in given if k not in _NOT_PART_OF_A_RUN}
        except NotImportableError as error:
            raise TypeError(f"checkpoint_folder: {error}") from error
        # Training that goes on does so from weights that the rest does not decide.
        start = describe(net.module_) if net._goes_on else None
        data = (dataset.X, dataset.y, dataset.drugs, dataset.cell_lines)
        return joblib.hash((params, data, dataset.train, dataset.valid, start))

    def _restore(self, net) -> None:
        try:
            state = _load(self.path_)
            if state["format"] != _FORMAT:
                raise ValueError(f"format {state['format']}, not {_FORMAT}")
            for part in _PARTS:
                getattr(net, part).load_state_dict(state[part])
            named = net.get_all_learnable_params()
            for (_, p), trainable in zip(named, state["trainable"], strict=True):
                p.requires_grad_(trainable)  # a Freezer acts in one epoch only
        except Exception as error:
            raise ValueError(
                f"checkpoint_folder: {self.path_} cannot be read ({error}); remove it "
                "to start from the beginning."
            ) from error
        net.seed_ = state["seed"]
        net.history = type(net.history)(state["history"])
        for name, callback in self._others(net):
            for key, value in state["callbacks"].get(name, {}).items():
                held = getattr(callback, key, None)
                load = getattr(held, "load_state_dict", None)
                if load is None:
                    setattr(callback, key, value)
                else:
                    load(value["state_dict"])


def _load(path: Path) -> dict:
    try:
        return from_plain(torch.load(path, map_location="cpu", weights_only=True))
    except UnpicklingError:  # torch's message advises to run the code in the file
        raise ValueError("it is not a checkpoint") from None


def _state_of(attributes: dict) -> dict:
    """Return what a callback learnt: numbers, text, tensors, or a state_dict."""
    learnt = {k: v for k, v in attributes.items() if k.endswith("_")}
    return {
        key: {"state_dict": v.state_dict()} if _has_state(v) else v
        for key, v in learnt.items()
        if _has_state(v) or is_plain(v)
    }


def _has_state(value) -> bool:
    return hasattr(value, "state_dict") and not isinstance(value, type)
