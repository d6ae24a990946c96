"""skorch's NeuralNet made to train on pairs: batches, device, seeds, interruption."""

import fnmatch
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer, PassthroughScoring, PrintLog
from torch import Tensor
from torch.utils.data import Dataset, Subset

from sklearn_molge._compat import validate_parameter_constraints
from sklearn_molge._utils.device import (
    derive_seed,
    draw_seed,
    forward_size,
    resolve_device,
    seed_torch,
)
from sklearn_molge._utils.rows import as_indexable
from sklearn_molge.alignment._batches import EmbeddedBatch, PairBatch
from sklearn_molge.alignment._callbacks import RetrievalScoring, TrainingCheckpoint
from sklearn_molge.alignment._dataset import (
    EpochBatches,
    MoleculeInputs,
    PairDataset,
    Rows,
)
from sklearn_molge.alignment._two_tower import TwoTower
from sklearn_molge.base import check_profiles
from sklearn_molge.molecules import load_encoder


def as_is(batch: PairBatch) -> tuple[PairBatch, None]:
    """Return what the dataset returned: a batch, not a list of samples."""
    return batch, None


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
    next `fit`; an interrupt of the user is raised again; losses stay on the device
    until the epoch ends.
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

    def get_params(self, deep=True, **kwargs):
        """Return the parameters, as they were given."""
        params = super().get_params(deep=deep, **kwargs)
        return params | {"device": self.__dict__["device"]}

    def _validate_params(self):
        validate_parameter_constraints(
            self._parameter_constraints,
            self.get_params(deep=False),
            caller_name=type(self).__name__,
        )
        super()._validate_params()

    def set_params(self, **params):
        """Set parameters; those of a fitted net take effect in the next `fit`.

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

    # -- building --------------------------------------------------------------------

    def initialize_module(self):
        """Draw or read the graph network, and draw the weights of the towers."""
        params = self.get_params_for("module")
        self._check_sizes(params)
        self._make_sampler()._validate_params()
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
            ("print_log", PrintLog()),
        ]

    def _make_sampler(self):
        return self.sampler(**self.get_params_for("sampler"))

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

    def load_params(self, *args, **kwargs):
        """Load what skorch's ``save_params`` wrote."""
        named = self.__dict__["device"]
        super().load_params(*args, **kwargs)
        self.device = named  # skorch writes down which one it is

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

    def _prepare_pairs(self, X, y, groups, split=(None, None)):
        return PairDataset.prepare(
            X,
            y,
            groups,
            mode=self.encoder_mode_,
            features=self.molecule_features_,
            split=split,
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
        self._move_if_it_fits(dataset)
        end = len(self.history) + self.max_epochs
        # A checkpoint adds epochs.
        self.notify("on_train_begin", X=dataset, y=dataset.y)
        try:
            self.fit_loop(dataset, epochs=end - len(self.history))
        except KeyboardInterrupt as error:
            if not self._has_stopped_early():
                interrupt = error
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
