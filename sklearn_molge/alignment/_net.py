"""skorch's NeuralNet made to train on pairs: batches, device, seeds, interruption."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from hashlib import sha256
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import gen_batches
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer, PassthroughScoring
from skorch.history import History
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from sklearn_molge._compat import validate_parameter_constraints
from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replacing
from sklearn_molge._files.tensors import read_tensors
from sklearn_molge._utils.device import (
    derive_seed,
    draw_seed,
    forward_size,
    resolve_device,
    seed_torch,
)
from sklearn_molge._utils.messages import first_few, refuse_unknown
from sklearn_molge._utils.rows import as_indexable
from sklearn_molge.alignment._batches import EmbeddedBatch, PairBatch
from sklearn_molge.alignment._callbacks import (
    EpochLog,
    RetrievalScoring,
    TrainingCheckpoint,
    check_history,
    load_part,
    undone_on_error,
)
from sklearn_molge.alignment._dataset import (
    EpochBatches,
    MoleculeInputs,
    PairDataset,
    Rows,
)
from sklearn_molge.alignment._plain import (
    EXTRA_STATE,
    parameters_hash,
    restored,
    settings_hash,
    transformer_state,
)
from sklearn_molge.alignment._two_tower import TwoTower
from sklearn_molge.base import check_profiles
from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.molecules import load_encoder

# Of what a trained network is made, for good; and what can be built anew for it.
_FOR_GOOD = {"module", "encoder", "molecule_features", "random_state"}
_BUILT_ANEW = {"optimizer", "optimizer__param_groups", "callbacks", "checkpoint_folder"}
# What a model file leaves out.
_OF_A_TRAINING = {"callbacks_", "optimizer_", "virtual_params_", "_snapshot"}
_CALLBACK_METHODS = ("initialize", "on_train_begin", "on_epoch_end", "get_params")


def as_is(batch: PairBatch) -> tuple[PairBatch, None]:
    """Return what the dataset returned: a batch, not a list of samples."""
    return batch, None


def _checksum(network: nn.Module) -> str:
    """Return a hash of all weights, in the order of their names."""
    found = sha256()
    for name, weight in sorted(network.state_dict().items()):
        if not name.endswith("_extra_state"):
            found.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
            content = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            found.update(memoryview(content.numpy()))
    return found.hexdigest()


def _read_history(file) -> History:
    path = file if isinstance(file, str | PathLike) else "f_history"
    with reading(path, "the history"):
        history = History.from_file(file)
        check_history(history.to_list())
    return history


@contextmanager
def torch_apart(
    device: torch.device, *, seed: int | None = None, tf32: bool = False
) -> Iterator[None]:
    """Leave torch's generators and its precision of products as they were."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before or tf32
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if seed is not None:
                seed_torch(seed, device)
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class PairNet(NeuralNet):
    """A NeuralNet that trains a module on batches of a PairDataset.

    What it changes in skorch: ``device="auto"``; parameters with the prefixes
    ``encoder__`` and ``sampler__``; `set_params` on a fitted net takes effect in the
    next `fit`, and what trained weights do not fit is refused; a net that was only
    initialized is not fitted; a file of weights tells what else they need; training
    that diverges goes back to its last finite epoch; an interrupt of the user is raised
    again; losses stay on the device until the epoch ends.
    """

    # What skorch collects as it builds is known here, so that names are checked first.
    _modules, _criteria, _optimizers = ["module"], ["criterion"], ["optimizer"]
    _parts = [*_modules, *_criteria, *_optimizers]
    prefixes_: list[str] = [*NeuralNet.prefixes_, *_parts, "encoder", "sampler"]
    # A learning-rate schedule holds the optimizer, whose tensors may be on a GPU.
    cuda_dependent_attributes_: list[str] = [*(f"{p}_" for p in _parts), "callbacks"]

    _parameter_constraints: dict
    initialized_: bool
    module_: TwoTower
    molecule_features_: BaseEstimator | None
    encoder_mode_: str | None

    # Whether the weights are more than those drawn by `initialize`.
    _has_weights = True
    # Whether a training goes on from weights, and whether it had to go back to them.
    _goes_on = False
    _diverged = False
    # Hashes of the parameters that the present parts were built with.
    _built_with: dict[str, str] | None = None
    _snapshot: dict[str, dict] | None = None

    # -- parameters ------------------------------------------------------------------

    @property
    def device(self) -> str | torch.device | None:
        """Where to compute; `get_params` has the name that was given."""
        named = self.__dict__["device"]
        automatic = isinstance(named, str) and named == "auto"
        return str(resolve_device(named)) if automatic else named

    @device.setter
    def device(self, named):
        self.__dict__["device"] = named

    def _get_param_names(self):
        return [k for k in vars(self) if not (k.startswith("_") or k.endswith("_"))]

    def get_params(self, deep=True, **kwargs) -> dict[str, Any]:
        """Return the parameters, as they were given."""
        params = super().get_params(deep=deep, **kwargs)
        return params | {"device": self.__dict__["device"]}

    def _validate_params(self):
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )
        for entry in self.callbacks or []:
            callback = entry[1] if isinstance(entry, tuple) else entry
            if not all(hasattr(callback, name) for name in _CALLBACK_METHODS):
                raise ValueError(
                    "callbacks must be a list of skorch callbacks, or of (name, "
                    f"callback). Got {entry!r} in it."
                )
        self._check_names()
        super()._validate_params()

    def _check_names(self):
        """Refuse names that neither the net, nor a part of it, nor a callback has."""
        given = [name for name in self._params_to_validate if not name.endswith("_")]
        allowed = set(self._get_param_names()).difference(given) | set(self.prefixes_)
        for part in self.prefixes_:
            allowed |= {f"{part}__{name}" for name in self._names_of(part)}
        refuse_unknown(type(self).__name__, sorted(given), sorted(allowed))

    def _names_of(self, part: str) -> list[str]:
        """Return the parameters of a part, and those given that it may take."""
        given = [
            name.removeprefix(f"{part}__")
            for name in self._params_to_validate
            if name.startswith(f"{part}__")
        ]
        if part == "callbacks":  # a name, with skorch's number, and its parameter
            callbacks = [*self.get_default_callbacks(), *(self.callbacks or [])]
            names = [
                c[0] if isinstance(c, tuple) else type(c).__name__ for c in callbacks
            ]
            called = re.compile(rf"({'|'.join(map(re.escape, names))})(_\d+)?(__.*)?")
            return names + [name for name in given if called.fullmatch(name)]
        make: Any = load_encoder if part == "encoder" else getattr(self, part, None)
        try:
            found = signature(make).parameters.values()
        except (TypeError, ValueError):
            return given
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in found):
            return given
        names = [parameter.name for parameter in found]
        return [*names, "param_groups"] if part == "optimizer" else names

    def set_params(self, **params) -> Self:
        """Set parameters; those of a fitted net take effect in the next `fit`.

        Until then `transform` and the others answer as they were trained. Training that
        goes on (`partial_fit`, `warm_start`) applies a new criterion, optimizer or
        callbacks, and refuses other settings of the network, its molecule features and
        its seed, which the trained weights do not fit.

        Parameters
        ----------
        **params
            Parameters, also with skorch's prefixes, and nested ones of estimators
            (``molecule_features__radius``). A learning rate and other parameters of
            the optimizer count at once, as in skorch.

        Returns
        -------
        self : object
            The estimator.
        """
        of_estimators, of_skorch = {}, {}
        for key, value in params.items():
            name, _, rest = key.partition("__")
            holder = params.get(name, getattr(self, name, None))
            if rest and isinstance(holder, BaseEstimator):
                of_estimators[key] = value
            elif self._waits_for_fit(key):
                setattr(self, key, value)
                self._params_to_validate.add(key)
            else:
                of_skorch[key] = value
        super().set_params(**of_skorch)
        BaseEstimator.set_params(self, **of_estimators)
        return self

    def _waits_for_fit(self, key):
        """Whether skorch would build a part anew, and what was learnt be lost."""
        if key == "optimizer__param_groups":
            return True
        if key.startswith("callbacks__") or self._is_virtual_param(key):
            return False
        return key.partition("__")[0] in self.prefixes_

    def get_params_for(self, prefix):
        """Return the parameters of a part; sizes that the data decide enter here."""
        params = super().get_params_for(prefix)
        if prefix == "module":
            sizes = {"n_genes": "n_genes_in_", "n_features": "n_molecule_features_"}
            known = {k: getattr(self, v) for k, v in sizes.items() if hasattr(self, v)}
            return known | params
        if prefix == "sampler" and "batch_size" in signature(self.sampler).parameters:
            return {"batch_size": self.batch_size} | params
        return params

    def get_params_for_optimizer(self, prefix, named_parameters):
        """Return the parameter groups; each must hold a parameter."""
        named = list(named_parameters)
        names = [name for name, _ in named]
        for pattern, _ in self.get_params_for(prefix).get("param_groups", []):
            if not fnmatch.filter(names, pattern):
                raise ValueError(
                    f"{prefix}__param_groups must name parameters of the network, such "
                    f"as {names[0]!r}. Got {pattern!r}, which matches none."
                )
        return super().get_params_for_optimizer(prefix, named)

    def _present_settings(self) -> dict[str, str]:
        """Hash of each parameter that parts are built from."""
        found = {}
        for key, value in self.get_params(deep=False).items():
            prefix = key.partition("__")[0]
            if prefix in _FOR_GOOD or key in _BUILT_ANEW or prefix == "criterion":
                given = isinstance(value, np.random.RandomState | np.random.Generator)
                found[key] = settings_hash(type(value) if given else value)
        return found

    def _apply_settings(self) -> None:
        """Build anew what was set since; refuse what the trained weights do not fit."""
        now, then = self._present_settings(), self._built_with
        if then is None or now == then:
            return
        names = sorted(now.keys() | then.keys())
        changed = [name for name in names if now.get(name) != then.get(name)]
        for_good = [n for n in changed if n.partition("__")[0] in _FOR_GOOD]
        if for_good:
            raise ValueError(
                f"{first_few(for_good)} changed since the network was built, and the "
                "training that is to go on has its weights. Set them back, or begin "
                "anew: fit with warm_start=False."
            )
        prefixes = {name.partition("__")[0] for name in changed}
        if "criterion" in prefixes:
            self._initialize_criterion()
        if prefixes & {"criterion", "optimizer"}:  # a loss may have parameters
            self._initialize_optimizer()
        if prefixes & {"callbacks", "checkpoint_folder"}:
            self._initialize_callbacks()
        if prefixes & {"criterion", "optimizer", "callbacks"}:
            for group in self.optimizer_.param_groups:  # of a schedule that begins now
                group.setdefault("initial_lr", group["lr"])
        self._built_with = now

    # -- building --------------------------------------------------------------------

    def initialize(self) -> Self:
        """Build all parts; their weights are random until `fit` or `load_params`.

        Returns
        -------
        self : object
            The estimator.
        """
        super().initialize()
        self._built_with = self._present_settings()
        return self

    def initialize_module(self):
        """Draw or read the graph network, and draw the weights of the towers."""
        params = self.get_params_for("module")
        self._check_sizes(params)
        self._has_weights = False
        self.seed_ = draw_seed(self.random_state)
        encoder, self.encoder_mode_ = None, None
        with torch_apart(self._where_to_train, seed=self.seed_):
            if self.encoder is not None:
                encoder, self.encoder_mode_ = load_encoder(
                    self.encoder, **self.get_params_for("encoder")
                )
            params = {"encoder": encoder} | params
            self.module_ = self.initialized_instance(self.module, params)
        self.n_genes_in_ = params["n_genes"]
        self.n_molecule_features_ = params["n_features"]
        if self.molecule_features is None:
            self.molecule_features_ = None
        self.module_._preparation = {"mode": self.encoder_mode_, "features": None}
        return self

    def _check_sizes(self, params):
        if self.encoder is not None and self.molecule_features is None:
            params.setdefault("n_features", 0)
        missing = [n for n in ("n_genes", "n_features") if n not in params]
        if missing:
            raise ValueError(
                "fit takes the sizes of the network from X and y; to initialize it "
                f"without them, set {' and '.join(f'module__{n}' for n in missing)}."
            )

    def initialize_criterion(self):
        """Make the loss."""
        with torch_apart(self._where_to_train, seed=derive_seed(self.seed_, 0)):
            return super().initialize_criterion()

    def initialize_callbacks(self):
        """Make the callbacks; the checkpoint keeps the state of all others."""
        super().initialize_callbacks()
        if self.checkpoint_folder is not None:
            checkpoint = TrainingCheckpoint(self.checkpoint_folder).initialize()
            self.callbacks_.append(("checkpoint", checkpoint))
        return self

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
            ("valid_mrr", RetrievalScoring()),
            ("print_log", EpochLog()),
        ]

    def _make_sampler(self):
        """Make the sampler; a loss that needs partners gets them unless told not."""
        params = self.get_params_for("sampler")
        needs_partners = getattr(self.criterion_, "needs_partners", False)
        if needs_partners and "partners" in signature(self.sampler).parameters:
            params = {"partners": True} | params
        sampler = self.sampler(**params)
        if needs_partners and getattr(sampler, "partners", True) is False:
            raise ValueError(
                f"{type(self.criterion_).__name__} compares two profiles of a drug, "
                f"and {type(sampler).__name__} draws the second one with "
                "sampler__partners=True. Got sampler__partners=False."
            )
        return sampler

    # -- device ----------------------------------------------------------------------

    @property
    def _where_to_train(self) -> torch.device:
        return resolve_device(self.device)

    @property
    def _module_device(self) -> torch.device:
        return next(self.module_.parameters()).device

    @property
    def _towers(self) -> TwoTower:
        """The network, without what accelerate wraps it in while it trains."""
        return getattr(self.module_, "module", self.module_)

    def __setstate__(self, state):
        named = state["device"]
        anywhere = named is None or str(named) == "auto"
        device = str(resolve_device(named)) if anywhere else named
        super().__setstate__(state | {"device": device})
        if anywhere:
            self.device = named

    def __deepcopy__(self, memo):
        """Copy part by part: a callback that cannot be pickled can be copied."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__.update(deepcopy(self.__dict__, memo))
        return copied

    # -- model files -----------------------------------------------------------------

    def __molge_getstate__(self) -> dict:
        """Return the state for a model file: without what is built anew from it."""
        return {k: v for k, v in vars(self).items() if k not in _OF_A_TRAINING}

    def __molge_setstate__(self, state: dict) -> None:
        """Take over a state; the optimizer and the callbacks begin anew."""
        self.__dict__.update({"callbacks_": [], "_snapshot": None, **state})
        self._initialize_virtual_params()
        if self.initialized_:
            for part in ("module_", "criterion_"):
                getattr(self, part).to(self._where_to_train)
            self._initialize_callbacks()
            self._initialize_optimizer()

    # -- files of weights ------------------------------------------------------------

    def save_params(
        self,
        f_params=None,
        f_optimizer=None,
        f_criterion=None,
        f_history=None,
        use_safetensors=False,
        **kwargs,
    ) -> None:
        """Write parts of the net, as skorch does; a path's file is whole or not there.

        The file of `f_params` also says what else embedding needs, see
        :meth:`load_params`, and has a checksum of its weights, which the format of
        safetensors lacks.

        Parameters
        ----------
        f_params, f_optimizer, f_criterion, f_history : path-like, file or None, \
                default=None
            The files; None leaves that part out.
        use_safetensors : bool, default=False
            Write safetensors, which other programs read; tensors alone, so not the
            optimizer.
        **kwargs
            Files of further modules, as in skorch.
        """
        files = {
            "f_params": f_params,
            "f_optimizer": f_optimizer,
            "f_criterion": f_criterion,
            "f_history": f_history,
            **kwargs,
        }
        with ExitStack() as stack:
            for name, file in files.items():
                if isinstance(file, str | PathLike):
                    files[name] = stack.enter_context(replacing(file))
            if use_safetensors and self.initialized_:
                stack.enter_context(self._with_checksum())
            super().save_params(use_safetensors=use_safetensors, **files)

    @contextmanager
    def _with_checksum(self) -> Iterator[None]:
        preparation = self._towers._preparation
        self._towers._preparation = preparation | {"checksum": _checksum(self._towers)}
        try:
            yield
        finally:
            self._towers._preparation = preparation

    def load_params(
        self,
        f_params=None,
        f_optimizer=None,
        f_criterion=None,
        f_history=None,
        checkpoint=None,
        use_safetensors=False,
        **kwargs,
    ) -> None:
        """Load what ``save_params`` wrote, into a net with the same settings.

        The file of `f_params` also has what the features of molecules learnt, such as
        their scale, and the names of the genes (``gene_names_in_``), and tells which
        features and which network the weights are for. No code in a file is run,
        unless you set ``torch_load_kwargs={"weights_only": False}``.

        Parameters
        ----------
        f_params, f_optimizer, f_criterion, f_history : path-like, file or None, \
                default=None
            The files; None leaves that part as it is.
        checkpoint : skorch.callbacks.Checkpoint or None, default=None
            Whose files to load.
        use_safetensors : bool, default=False
            As in ``save_params``.
        **kwargs
            Files of further modules, as in skorch.

        Raises
        ------
        CorruptFileError
            If a file is damaged, or not of such a net. The net stays as it was.
        ValueError
            If the weights are of another network, of other molecule features, or of
            features whose state such a file cannot hold. The net stays as it was.
        """
        if checkpoint is not None and not self.initialized_:
            self.initialize()
        given = {
            "f_params": f_params,
            "f_optimizer": f_optimizer,
            "f_criterion": f_criterion,
            "f_history": f_history,
            **kwargs,
        }
        others = [checkpoint, f_optimizer, f_criterion, *kwargs.values()]
        is_all = any(file is not None for file in others)
        with undone_on_error(self, self._parts if is_all else self._modules):
            if checkpoint is not None:
                if f_history is None and checkpoint.f_history is not None:
                    self.history = _read_history(checkpoint.f_history_)
                given = checkpoint.get_formatted_files(self) | {
                    key: file for key, file in given.items() if file is not None
                }
            self._load_files(given, use_safetensors)

    def _load_files(self, given, use_safetensors: bool) -> None:
        """Read all files, then load them."""
        files = {k: f for k, f in given.items() if f is not None and k != "f_pickle"}
        if not all(key.startswith("f_") for key in files) or (
            files.keys() >= {"f_params", "f_module"}
        ):
            raise TypeError(
                "load_params takes files by names that begin with f_, and one of "
                f"f_params and f_module. Got {first_few(files)}."
            )
        history = files.pop("f_history", None)
        if history is not None:
            self.history = _read_history(history)
        read = []
        for key, file in files.items():
            part = "module_" if key == "f_params" else f"{key[2:]}_"
            self.check_is_fitted([part])
            path = file if isinstance(file, str | PathLike) else key
            read.append((part, self._read_state(file, path, use_safetensors), path))
        for part, state, path in read:
            if part == "module_":
                self._load_towers(state, path)
            else:
                load_part(self, part, state, path)

    def _read_state(self, file, path, use_safetensors: bool):
        options = self.torch_load_kwargs or {}
        with reading(path):
            if use_safetensors:
                from safetensors.torch import load

                return load(Path(path).read_bytes() if file is path else file.read())
            if options.get("weights_only") is False:  # the user's own word
                return torch.load(file, **{"map_location": "cpu"} | options)
        return read_tensors(file, path)

    def _load_towers(self, state, path) -> None:
        if isinstance(state, dict) and "_extra_state" not in state:
            raise CorruptFileError(
                path,
                "",
                "it has weights alone, as earlier versions wrote it, and not what else "
                "is needed to embed: train again, or load the pickled estimator",
            )
        load_part(self, "module_", state, path)
        checksum = self._towers._preparation.pop("checksum", None)
        if checksum is not None and checksum != _checksum(self._towers):
            raise CorruptFileError(path, "the weights", "their checksum differs")
        of_file = self._towers._preparation
        with reading(path, EXTRA_STATE):
            mode, features, genes = of_file["mode"], of_file["features"], None
            if features is not None:
                features = {k: features[k] for k in ("given", "learnt", "fitted")}
            if of_file.get("genes") is not None:
                genes = np.array(of_file["genes"], dtype=object)
                texts = all(isinstance(name, str) for name in genes)
                if genes.shape != (self.n_genes_in_,) or not texts:
                    raise ValueError(f"they name {len(genes)} genes")
        if mode != self.encoder_mode_:
            raise ValueError(
                f"The weights are for the atom features {mode!r}, and this net has "
                f"{self.encoder_mode_!r}."
            )
        self._take_features(features, path)
        if genes is not None:
            self.gene_names_in_ = genes
        elif hasattr(self, "gene_names_in_"):
            del self.gene_names_in_
        self._has_weights = True

    def _take_features(self, state: dict | None, path) -> None:
        """Take over what the loaded weights' molecule features had learnt."""
        own = getattr(self, "molecule_features_", None)
        given = self.molecule_features if own is None else own
        if (None if given is None else parameters_hash(given)) != (
            None if state is None else state["given"]
        ):
            raise ValueError(
                "The weights were trained with other molecule_features than those of "
                f"this net: {given!r}. Give it the same ones before it is built."
            )
        if state is None:
            return
        if state["learnt"] is not None:
            with reading(path, "what molecule_features learnt"):
                self.molecule_features_ = restored(given, state["learnt"])
        elif own is None or settings_hash(own, fitted=True) != state["fitted"]:
            raise ValueError(
                "What these molecule_features learnt cannot be held by a file of "
                "weights; pickle the fitted estimator instead, as by joblib.dump."
            )

    def _note_preparation(self) -> None:
        """Let a file of the weights say which features and genes they are for."""
        features = self.molecule_features_
        names = getattr(self, "gene_names_in_", None)
        self._towers._preparation = {
            "mode": self.encoder_mode_,
            "features": None if features is None else transformer_state(features),
            "genes": None if names is None else [str(name) for name in names],
        }

    # -- data ------------------------------------------------------------------------

    def get_dataset(self, X, y=None, groups=None):
        """Prepare pairs for the towers; what is a dataset already is returned.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features), or Dataset
            The molecule of each row.
        y : array-like of shape (n_samples, n_genes), default=None
            The profile of each row.
        groups : array-like of shape (n_samples, 2), default=None
            Drug and cell line of each row.

        Returns
        -------
        dataset : torch.utils.data.Dataset
            With each distinct molecule once.
        """
        if isinstance(X, Dataset):
            return X
        y = check_profiles(self, y, reset=False, dtype=np.float32)
        return self._prepare_pairs(as_indexable(X), y, groups)

    def _prepare_pairs(self, X, y, groups, split=(None, None), weights=None):
        return PairDataset.prepare(
            X,
            y,
            groups,
            mode=self.encoder_mode_,
            features=self.molecule_features_,
            split=split,
            weights=weights,
        )

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the parts that `train_split` chose before anything was learnt."""
        return self.get_dataset(X, y, **fit_params).split()

    def get_iterator(self, dataset, training=False):
        """Return a DataLoader over the batches of the sampler."""
        name = "iterator_train" if training else "iterator_valid"
        batches = EpochBatches(
            self._make_sampler(),
            dataset,
            seed=self.seed_,
            epoch=len(self.history) if training else None,
        )
        whole = dataset.dataset if isinstance(dataset, Subset) else dataset
        return getattr(self, name)(
            whole, batch_sampler=batches, collate_fn=as_is, **self.get_params_for(name)
        )

    # -- training --------------------------------------------------------------------

    def _train(self, dataset: PairDataset) -> None:
        """Train for `max_epochs` more epochs; an interrupt of the user is raised."""
        interrupt = None
        self._goes_on, self._diverged = self._has_weights, False
        self._has_weights = True
        self._move_if_it_fits(dataset)
        end = len(self.history) + self.max_epochs
        # A checkpoint adds epochs.
        self.notify("on_train_begin", X=dataset, y=dataset.y)
        self._snapshot = None
        if self._goes_on or self.history:
            self._take_snapshot()
        try:
            self.fit_loop(dataset, epochs=end - len(self.history))
        except KeyboardInterrupt as error:
            if not self._has_stopped_early():
                interrupt = error
        except Exception as error:
            if self._is_finite():
                self._has_weights = self._snapshot is not None
                raise
            self._go_back(error)
        finally:
            self._snapshot = None
        if self.history:  # EarlyStopping looks at the last epoch
            self.notify("on_train_end", X=dataset, y=dataset.y)
        if interrupt is not None:
            raise interrupt

    def _has_stopped_early(self) -> bool:
        """Whether an EarlyStopping, not the user, raised the KeyboardInterrupt."""
        stops = (cb for _, cb in self.callbacks_ if isinstance(cb, EarlyStopping))
        return any(stop.misses_ >= stop.patience for stop in stops)

    def _move_if_it_fits(self, dataset: PairDataset) -> None:
        """Put the training set on the GPU, if that leaves half of its memory free."""
        device = self._module_device
        loader = self.get_params_for("iterator_train")
        # Workers and pinned memory are for batches that are made on the CPU.
        on_cpu = loader.get("num_workers") or loader.get("pin_memory")
        if device.type == "cuda" and not on_cpu:
            free, _ = torch.cuda.mem_get_info(device)
            if dataset.nbytes < free / 2:
                dataset.move(device)

    def _is_finite(self) -> bool:
        """Whether the losses of this epoch and all weights are numbers."""
        batches = self.history[-1]["batches"] if self.history else []
        losses = [batch["train_loss"] for batch in batches if "train_loss" in batch]
        weights = (p for _, p in self.get_all_learnable_params())
        return bool(np.isfinite(losses).all()) and all(
            bool(torch.isfinite(p).all()) for p in weights
        )

    def _take_snapshot(self) -> None:
        parts = (f"{part}_" for part in self._parts)
        self._snapshot = {
            part: deepcopy(getattr(self, part).state_dict()) for part in parts
        }

    def _go_back(self, error: Exception) -> None:
        """Return to the last finite epoch, and say so."""
        rate = max(group["lr"] for group in self.optimizer_.param_groups)
        message = (
            f"Training diverged in epoch {len(self.history)}: a loss or a weight is no "
            f"finite number, with lr={rate:g}. Lower lr, or clip gradients "
            "(skorch.callbacks.GradientNormClipping)."
        )
        self._diverged = True
        if self._snapshot is None:
            self._has_weights = False
            raise ValueError(message) from error
        self.history.pop()
        for part, state in self._snapshot.items():
            getattr(self, part).load_state_dict(state)
        warnings.warn(
            f"{message} The net is that of epoch {len(self.history)}, the last finite "
            "one.",
            ConvergenceWarning,
            stacklevel=4,
        )

    def on_epoch_end(self, net, **kwargs):
        """Stop where the training diverged, before anything looks at its weights."""
        super().on_epoch_end(net, **kwargs)
        if not self._is_finite():
            raise FloatingPointError("not finite")
        self._take_snapshot()

    def on_epoch_begin(self, net, **kwargs):
        """Start the history of an epoch, and draw from a generator of its own."""
        super().on_epoch_begin(net, **kwargs)
        seed_torch(derive_seed(self.seed_, len(self.history)), self._module_device)

    @property
    def _losses_wait(self) -> bool:
        """Whether to read losses when the epoch ends: each reading waits for a GPU."""
        return self._module_device.type != "cpu"

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Compute the losses of one epoch; on a GPU they are read when it ends."""
        if iterator is None or not self._losses_wait:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        losses = []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses.append(step["loss"].detach())
            self.history.record_batch(f"{prefix}_batch_size", len(batch[0]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        records = self.history[-1]["batches"][-len(losses) :]
        for record, loss in zip(records, torch.stack(losses).tolist(), strict=True):
            record[f"{prefix}_loss"] = loss
        self.history.record(f"{prefix}_batch_count", len(losses))

    def infer(self, x: PairBatch, **fit_params) -> EmbeddedBatch:
        """Embed both views of a batch."""
        device = self._module_device
        with torch.autocast(
            device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            return self.module_(x.to(device))

    def get_loss(self, y_pred, y_true=None, X=None, training=False):
        """Return the loss of an embedded batch, computed in float32."""
        return self.criterion_(y_pred.float())

    @property
    def predict(self):
        """Not there: a two-view estimator ranks, see `similarity`."""
        raise AttributeError(
            f"{type(self).__name__} has no predict; use similarity, transform or "
            "transform_ge."
        )

    # These join the batches of skorch's `forward_iter`, which is there.
    predict_proba = forward = predict

    # -- embedding -------------------------------------------------------------------

    @torch.inference_mode()
    def _project_molecules(self, molecules: MoleculeInputs, indices: Rows) -> NDArray:
        """Embed some molecules, a batch at a time."""
        towers, device = self._towers.eval(), self._module_device
        size = self.batch_size
        if molecules.graphs is not None:
            size = forward_size(size, device)
        parts = []
        for rows in gen_batches(len(indices), size):
            graphs, features = molecules.take(indices[rows])
            graphs = None if graphs is None else graphs.to(device)
            features = None if features is None else features.to(device)
            parts.append(towers.embed_molecules(graphs, features).cpu())
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def _project_profiles(self, profiles: Tensor) -> NDArray[np.float32]:
        """Embed profiles."""
        towers = self._towers.eval()
        prepared = towers.prepare_profiles(profiles.to(self._module_device))
        return towers.embed_profiles(prepared).cpu().numpy()
