"""skorch's NeuralNet made to train on pairs: batches, device, seeds, interruption."""

import fnmatch
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer, PassthroughScoring, PrintLog
from torch import nn
from torch.utils.data import Subset

from sklearn_molge._compat import validate_parameter_constraints
from sklearn_molge._utils.device import (
    derive_seed,
    forward_size,
    resolve_device,
    seed_torch,
)
from sklearn_molge.alignment._callbacks import RetrievalScoring
from sklearn_molge.alignment._checkpoint import Checkpoint
from sklearn_molge.alignment._pairs import EpochBatches, PairBatch, PairDataset
from sklearn_molge.molecules import load_encoder


def as_is(batch: Any) -> Any:
    """Return what the dataset returned: a batch, not a list of samples."""
    return batch, None


class TrainingParts(NamedTuple):
    """What a training is built from."""

    dataset: PairDataset
    train: NDArray[np.intp]
    valid: NDArray[np.intp] | None
    encoder: nn.Module | None


class PairNet(NeuralNet):
    """A NeuralNet that trains a module on batches of a PairDataset.

    What it changes in skorch: ``device="auto"``; parameters with the prefixes
    ``encoder__`` and ``sampler__``; `set_params` on a fitted net takes effect in the
    next `fit`; an interrupt of the user is raised again; losses stay on the device
    until the epoch ends.
    """

    prefixes_: list[str] = [*NeuralNet.prefixes_, "encoder", "sampler"]
    # A learning-rate schedule holds the optimizer, whose tensors may be on a GPU.
    cuda_dependent_attributes_: list[str] = ["callbacks"]

    _parameter_constraints: dict
    initialized_: bool
    device: Any
    _fitted_to: "TrainingParts"  # only while it trains

    # -- parameters ------------------------------------------------------------------

    def _get_param_names(self):
        return [k for k in vars(self) if not (k.startswith("_") or k.endswith("_"))]

    def _validate_params(self):
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )
        known = self.prefixes_  # skorch adds these when it builds them
        self.prefixes_ = list({*known, "module", "criterion", "optimizer"})
        try:
            super()._validate_params()
        finally:
            self.prefixes_ = known

    def set_params(self, **params):
        """Set parameters; those of a fitted net take effect in the next `fit`.

        Parameters
        ----------
        **params
            Parameters, also with skorch's prefixes, and nested ones of estimators
            (``molecule_features__radius``).

        Returns
        -------
        self : object
            The estimator.
        """
        if "callbacks" in params:
            self.callbacks = params.pop("callbacks")
        own = {}
        nested: dict[str, dict] = {}
        for key, value in params.items():
            name, _, rest = key.partition("__")
            part = params.get(name, getattr(self, name, None))
            if rest and isinstance(part, BaseEstimator):
                nested.setdefault(name, {})[rest] = value
            else:
                own[key] = value
        initialized, self.initialized_ = self.initialized_, False
        try:
            super().set_params(**own)
        finally:
            self.initialized_ = initialized
        for name, values in nested.items():
            getattr(self, name).set_params(**values)
        return self

    def get_params_for(self, prefix):
        """Return the parameters of a part; sizes that the data decide enter here."""
        params = super().get_params_for(prefix)
        if prefix == "module":
            parts = self._fitted_to
            features = parts.dataset.molecules.features
            params = {
                "n_genes": parts.dataset.profiles.shape[1],
                "n_features": 0 if features is None else features.shape[1],
                "encoder": parts.encoder,
                **params,
            }
        elif prefix == "sampler" and "batch_size" in signature(self.sampler).parameters:
            params = {"batch_size": self.batch_size, **params}
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

    def _check_parts(self, n_genes: int) -> None:
        """Build small ones, so that wrong parameters raise before any work is done."""
        with torch.random.fork_rng(devices=[]):
            module = self.module(n_genes, 1, **self._get_params_for("module"))
            self.criterion(**self._get_params_for("criterion"))
        options = self._get_params_for("optimizer")
        options.pop("param_groups", None)
        self.optimizer(module.parameters(), **{"lr": self.lr, **options})
        self.sampler(**self.get_params_for("sampler"))._validate_params()

    # -- device and seeds ------------------------------------------------------------

    @property
    def _module_device(self) -> torch.device:
        return next(self.module_.parameters()).device

    @property
    def _towers(self) -> Any:
        """The network, without what accelerate wraps it in while it trains."""
        return getattr(self.module_, "module", self.module_)

    @contextmanager
    def _prepared(self, reset: bool) -> Iterator[None]:
        """Set `device` and seed torch, and put both back afterwards."""
        device = resolve_device(self.device) if reset else self._module_device
        named = self.device
        self.device = None if named is None else device
        tf32 = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32 or self.precision != "float32"
        devices = [device] if device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                seed_torch(self.seed_, device)
                yield
        finally:
            self.__dict__.pop("_fitted_to", None)
            self.device = named
            torch.backends.cuda.matmul.allow_tf32 = tf32

    def __setstate__(self, state):
        named = state["device"]
        anywhere = named is None or str(named) == "auto"
        device = str(resolve_device(named)) if anywhere else named
        super().__setstate__(state | {"device": device})
        if anywhere:
            self.device = named

    def load_params(self, *args, **kwargs):
        """Load what skorch's ``save_params`` wrote, whatever `device` is called."""
        check_is_fitted(self)
        named, self.device = self.device, str(self._module_device)
        try:
            super().load_params(*args, **kwargs)
        finally:
            self.device = named

    # -- building --------------------------------------------------------------------

    def _load_encoder(self):
        """Read or draw the graph network, and note which featuriser mode it needs."""
        if self.encoder is None:
            self.encoder_mode_ = None
            return None
        params = self.get_params_for("encoder")
        encoder, self.encoder_mode_ = load_encoder(self.encoder, **params)
        return encoder

    def initialize_module(self):
        """Build the towers and learn their scales from the training set."""
        super().initialize_module()
        dataset, train, *_ = self._fitted_to
        molecules = np.unique(dataset.molecule_of[train])
        chunks = np.array_split(molecules, -(-len(molecules) // self.batch_size))
        self.module_.learn_scaling(
            dataset.molecules, dataset.profiles[torch.from_numpy(train)], chunks
        )
        self.module_.learn_start(dataset, train, chunks, self.seed_)
        return self

    @property
    def _default_callbacks(self):
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring("train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring("valid_loss")),
            ("valid_mrr", RetrievalScoring()),
            ("print_log", PrintLog()),
        ]

    # -- data ------------------------------------------------------------------------

    def get_split_datasets(self, X, y=None, **fit_params):
        """Return the parts that `train_split` chose before anything was learnt."""
        _, train, valid, _ = self._fitted_to
        if valid is None:
            return X, None
        return Subset(X, train.tolist()), Subset(X, valid.tolist())

    def get_iterator(self, dataset, training=False):
        """Return a DataLoader over the batches of the sampler."""
        name = "iterator_train" if training else "iterator_valid"
        batches = EpochBatches(
            self.sampler(**self.get_params_for("sampler")),
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
        self._move_if_it_fits(dataset)
        self.notify("on_train_begin", X=dataset, y=None)
        try:
            self.fit_loop(dataset)
        except KeyboardInterrupt as error:
            if not _is_early_stop(error):
                interrupt = error
        if self.history:  # EarlyStopping looks at the last epoch
            self.notify("on_train_end", X=dataset, y=None)
        if interrupt is not None:
            raise interrupt

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

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train, going on from the last checkpoint of the same run if there is one."""
        epochs = self.max_epochs if epochs is None else epochs
        if self.checkpoint_folder is None:
            return super().fit_loop(X, y, epochs, **fit_params)
        start = len(self.history)
        self._checkpoint = Checkpoint(self.checkpoint_folder, self, X)
        try:
            self._checkpoint.restore(self)
            super().fit_loop(X, y, epochs - (len(self.history) - start), **fit_params)
        except KeyboardInterrupt as error:
            if _is_early_stop(error):
                self._checkpoint.remove()
            raise
        else:
            self._checkpoint.remove()
        finally:
            del self._checkpoint
        return self

    def on_epoch_begin(self, net, **kwargs):
        """Start the history of an epoch, and draw from a generator of its own."""
        super().on_epoch_begin(net, **kwargs)
        seed = derive_seed(self.seed_, len(self.history))
        seed_torch(seed, self._module_device)

    def notify(self, method_name, **cb_kwargs):
        """Tell the callbacks; after an epoch, write the checkpoint."""
        super().notify(method_name, **cb_kwargs)
        if method_name == "on_epoch_end" and hasattr(self, "_checkpoint"):
            self._checkpoint.write(self)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Compute the losses of one epoch; on a GPU they are read when it ends."""
        if iterator is None or self._module_device.type == "cpu":
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

    def infer(self, x: PairBatch, **fit_params):
        """Embed both views of a batch."""
        device = self._module_device
        with torch.autocast(
            device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            return self.module_(x.to(device))

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss of an embedded batch, computed in float32."""
        embedded = y_pred._replace(
            molecules=y_pred.molecules.float(), profiles=y_pred.profiles.float()
        )
        return self.criterion_(embedded)

    @property
    def predict(self):
        """Not there: a two-view estimator ranks, see `similarity`."""
        raise AttributeError(
            f"{type(self).__name__} has no predict; use similarity, transform or "
            "transform_ge."
        )

    # skorch's other ways to call the module, which take batches of one view.
    predict_proba = forward = forward_iter = predict

    # -- embedding -------------------------------------------------------------------

    @torch.inference_mode()
    def _embed_molecules(self, molecules, indices):
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
    def _embed_profiles(self, profiles):
        towers = self._towers.eval()
        prepared = towers.prepare_profiles(profiles.to(self._module_device))
        return towers.embed_profiles(prepared).cpu().numpy()


def _is_early_stop(error: KeyboardInterrupt) -> bool:
    """Return whether skorch's EarlyStopping raised it, rather than the user."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return isinstance(frame.f_locals.get("self"), EarlyStopping)


def encoder_of(module: Any) -> nn.Module | None:
    """Return the graph network of a two-tower module."""
    return module.molecule_tower.encoder
