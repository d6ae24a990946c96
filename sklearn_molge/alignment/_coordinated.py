"""CoordinatedEmbedder: two towers trained so that matching pairs are close."""

from __future__ import annotations

import os
import warnings
from numbers import Integral, Real
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted
from torch.optim import Adam
from torch.utils.data import DataLoader

from sklearn_molge._compat import HasMethods, Interval, StrOptions
from sklearn_molge._utils.checks import check_finite
from sklearn_molge._utils.rows import factorize_texts, is_text
from sklearn_molge._utils.similarity import METRICS, says_nothing
from sklearn_molge.alignment._dataset import (
    MoleculeInputs,
    as_feature_tensor,
    as_tensor,
    check_kind,
    check_resolution,
    check_training_set,
    split_rows,
    weighted_rows,
)
from sklearn_molge.alignment._fitted_tower import FittedTower
from sklearn_molge.alignment._net import PairNet, torch_apart
from sklearn_molge.alignment._two_tower import TwoTower
from sklearn_molge.alignment.losses import QuadrupletLoss
from sklearn_molge.alignment.samplers import DistanceWeightedSampler
from sklearn_molge.base import EmbedderMixin, check_molecules, check_profiles
from sklearn_molge.exceptions import JointSpaceWarning
from sklearn_molge.molecules import parsed_once, save_encoder

__all__ = ["CoordinatedEmbedder"]


class CoordinatedEmbedder(
    EmbedderMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, PairNet
):
    r"""Molecule tower and expression tower, trained together into one space.

    The molecule tower is a message-passing network of the molecular graph (D-MPNN),
    or a network of molecule features, or both joined; the expression tower is a
    self-normalising network (SNN). A loss over pairs pulls each profile to its own
    molecule and pushes it from others. This is the model of Finlayson et al. 2020
    (Section 3.3) and its present relatives; :data:`PRESETS` has two settings.

    It is a skorch ``NeuralNet``: callbacks, history, ``save_params`` and parameters
    with a prefix (``module__dropout``) are skorch's. `fit` takes the sizes of the
    network from the data; to ``initialize()`` it before, for ``load_params``, give
    ``module__n_genes``, and with molecule features ``module__n_features``.

    Parameters
    ----------
    encoder : str, path-like, nn.Module or None, default="random"
        Graph network of the molecule tower. "random" starts from random weights; a
        path or "admet-ai" starts from pretrained ones, see
        :class:`~sklearn_molge.molecules.ChempropEmbedder`. None means no graph:
        features only. ``encoder__hidden_size``, ``encoder__depth``,
        ``encoder__aggregation`` and the others shape a random one.
    molecule_features : transformer or None, default=None
        Computes features of SMILES, which are joined to the graph vector before the
        head. It is cloned, and fitted on the distinct training molecules.
    criterion : class, default=QuadrupletLoss
        Loss, from :mod:`sklearn_molge.alignment.losses`; its parameters have the
        prefix ``criterion__``. One with ``needs_partners`` gets a sampler with
        ``sampler__partners=True``, unless that is given.
    sampler : class, default=DistanceWeightedSampler
        Draws the batches, from :mod:`sklearn_molge.alignment.samplers`; its parameters
        have the prefix ``sampler__``.
    module : class, default=TwoTower
        The network: widths, depths, activation, dropout and scaling of the towers are
        parameters of :class:`TwoTower`, with the prefix ``module__``.
    optimizer : class, default=torch.optim.Adam
        With the prefix ``optimizer__``; ``optimizer__param_groups`` gives parts their
        own rate: ``[("molecule_tower.encoder.*", {"lr": 1e-5})]``.
    lr : float, default=1e-3
        Learning rate.
    max_epochs : int, default=20
        Epochs of one `fit` or `partial_fit`.
    batch_size : int, default=417
        Anchors of a batch, of samplers that have this parameter; and the number of
        molecules embedded at once.
    train_split : splitter or None, default=None
        Splits off a validation part, on which ``valid_mrr`` and ``valid_mrr_drug`` are
        measured after each epoch: for instance a
        :class:`~sklearn_molge.model_selection.DrugCellLineShuffleSplit` with
        ``groups`` given to `fit`. One with ``hold_out="drugs"`` does without, and tells
        drugs by their structure. None trains on all rows.
    callbacks : list or None, default=None
        skorch callbacks, such as
        ``EarlyStopping("valid_mrr", lower_is_better=False, load_best=True)``,
        ``GradientNormClipping``, ``LRScheduler`` or
        ``Freezer("molecule_tower.encoder.*")``.
    metric : {"correlation", "cosine", "dot", "euclidean"}, default="correlation"
        Similarity in the joint space; see
        :func:`~sklearn_molge.metrics.pairwise_similarity`.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is the GPU where there is one.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Of the towers: tf32 allows faster products on a GPU, bfloat16 is autocast.
    checkpoint_folder : path-like or None, default=None
        Folder for a checkpoint after each epoch. The same call of `fit`, after an
        interruption, goes on from it and ends at the same weights.
    iterator_train, iterator_valid : class, default=torch.utils.data.DataLoader
        ``iterator_train__num_workers`` and ``iterator_train__pin_memory`` help a GPU.
    warm_start : bool, default=False
        Whether `fit` goes on from the present weights. A criterion, an optimizer,
        callbacks or a sampler that were set since are applied; settings that the
        weights do not fit raise an error.
    random_state : int, RandomState instance or None, default=None
        Decides weights, batches and dropout; torch's and numpy's global generators
        are left alone.
    verbose : int, default=0
        1 prints a line each epoch.
    **kwargs
        Parameters with a prefix, see above.

    Attributes
    ----------
    module_ : TwoTower
        The trained network.
    history_ : skorch.history.History
        Losses and scores of each epoch.
    molecule_features_ : transformer or None
        The fitted `molecule_features`.
    n_genes_in_ : int
        Width of a profile.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.
    n_molecule_features_ : int
        Number of features that the molecule tower reads; 0 for a graph alone.
    encoder_mode_ : str or None
        Atom features of the graphs, by chemprop's name; None without a graph.
    n_features_in_ : int
        Width of X, if `fit` was given features.
    seed_ : int
        Seed of this training.

    See Also
    --------
    CCA : The best linear alignment, in closed form.
    TransformedTargetRetriever : Transforms the profiles in a Pipeline.

    Notes
    -----
    Every molecule's graph and features are computed once per `fit`, and each batch
    encodes each of its molecules once. Rows are told apart by
    :func:`~sklearn_molge.molecules.drug_ids` (of features: by equal rows), or by the
    drugs in `groups`: salts and isomers of one drug are never its negatives.

    `sample_weight` decides which rows an epoch has, and not how much a term of the loss
    counts: losses over whole batches have no terms of single rows, and a row that is
    drawn less is also less often a negative. Scales and ``module__start="cca"`` use the
    weights themselves. Each epoch prepares the sampler anew then.

    The same `random_state` gives the same weights to the bit on the same machine with
    the same number of threads. Under joblib's threading backend runs disturb each
    other, since torch's generator is shared; use processes.

    References
    ----------
    Finlayson et al. 2020, "Cross-modal representation alignment of molecular structure
    and perturbation-induced transcriptional profiles", Section 3.3.

    Examples
    --------
    >>> from sklearn_molge.alignment import CoordinatedEmbedder
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> study = make_perturbation_study(n_molecules=20, n_cell_lines=2, random_state=0)
    >>> net = CoordinatedEmbedder(
    ...     encoder__hidden_size=32, module__embedding_size=16, max_epochs=2,
    ...     random_state=0,
    ... ).fit(study.smiles, study.ge)
    >>> net.similarity(["CCO", "c1ccccc1O", "CCN"], study.ge[:2]).shape
    (2, 3)
    """

    _parameter_constraints: dict = {
        "encoder": [str, os.PathLike, torch.nn.Module, None],
        "molecule_features": [HasMethods(["fit", "transform"]), None],
        "criterion": [type],
        "sampler": [type],
        "module": [type],
        "optimizer": [type],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "train_split": [HasMethods("split"), callable, None],
        "callbacks": [list, None],
        "metric": [StrOptions(METRICS - {"jaccard", "tanimoto"})],
        "device": [str, torch.device, None],
        "precision": [StrOptions({"float32", "tf32", "bfloat16"})],
        "checkpoint_folder": [str, os.PathLike, None],
        "iterator_train": [type],
        "iterator_valid": [type],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoder="random",
        *,
        molecule_features=None,
        criterion=QuadrupletLoss,
        sampler=DistanceWeightedSampler,
        module=TwoTower,
        optimizer=Adam,
        lr=1e-3,
        max_epochs=20,
        batch_size=417,
        train_split=None,
        callbacks=None,
        metric="correlation",
        device="auto",
        precision="float32",
        checkpoint_folder=None,
        iterator_train=DataLoader,
        iterator_valid=DataLoader,
        warm_start=False,
        random_state=None,
        verbose=0,
        **kwargs,
    ):
        super().__init__(
            module,
            criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            train_split=train_split,
            callbacks=callbacks,
            warm_start=warm_start,
            verbose=verbose,
            device=device,
            **kwargs,
        )
        self.encoder = encoder
        self.molecule_features = molecule_features
        self.sampler = sampler
        self.metric = metric
        self.precision = precision
        self.checkpoint_folder = checkpoint_folder
        self.random_state = random_state

    def fit(self, X, y, groups=None, sample_weight=None) -> Self:
        """Train both towers.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            The molecule of each row: SMILES; or features, with ``encoder=None``.
        y : array-like of shape (n_samples, n_genes)
            The profile of each row.
        groups : array-like of shape (n_samples, 2), default=None
            Drug and cell line of each row, for `train_split` and for samplers that
            prefer other cell lines.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0. A row is in an epoch with a probability of
            its weight over the largest one, drawn anew for each epoch, whatever the
            sampler and the loss; a weight of 0 is as if the row were not there. Equal
            weights change nothing.

        Returns
        -------
        self : object
            The trained estimator.

        Raises
        ------
        InvalidSmilesError
            With index and text of every entry of X that is not a molecule.
        ValueError
            If there are fewer than two drugs, a profile has a NaN, a weight is
            negative, or a parameter or a pretrained file is not what it should be.
            Also if the training diverges in its first epoch.
        KeyboardInterrupt
            If the user interrupts; with `checkpoint_folder` the same call goes on.

        Warns
        -----
        ConvergenceWarning
            If the training diverges later: it returns to its last finite epoch.
        JointSpaceWarning
            If ``module__start="cca"`` finds fewer directions than the joint space has,
            or ``metric="correlation"`` has fewer than 3 dimensions to compare.
        """
        self._validate_params()
        goes_on = self.warm_start and self.initialized_
        return self._fit(X, y, groups, sample_weight, reset=not goes_on)

    def partial_fit(self, X, y, groups=None, classes=None, sample_weight=None) -> Self:
        """Train for `max_epochs` more epochs, from the present weights.

        Parameters
        ----------
        X, y, groups : array-like
            As in `fit`.
        classes : Ignored
            Not used, present for API consistency with skorch.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
            The trained estimator.
        """
        self._validate_params()
        return self._fit(X, y, groups, sample_weight, reset=not self.initialized_)

    def _fit(self, X, y, groups, sample_weight, *, reset):
        """Build what is to be built, and train it."""
        if not reset:
            self._apply_settings()
        device = self._where_to_train if reset else self._module_device
        with torch_apart(device, tf32=self.precision != "float32"):
            with parsed_once():
                dataset = self._prepare(X, y, groups, sample_weight, reset)
            self._train(dataset)
        return self

    def _prepare(self, X, y, groups, sample_weight, reset):
        """Check and prepare the training set, and build the network for it."""
        X = check_molecules(self, X, reset=reset)
        y = check_profiles(self, y, reset=reset, dtype=np.float32)
        X, y, groups, weights = weighted_rows(X, y, groups, sample_weight)
        check_training_set(X, y, groups)
        graphs, features = self.encoder is not None, self.molecule_features is not None
        check_kind(X, graphs=graphs, features=features)
        split = split_rows(self.train_split, X, y, groups)
        if reset:
            self._has_weights = False
        if reset or not hasattr(self, "molecule_features_"):
            self._fit_features(X[split[0]])
        if reset:
            self._refuse_other_sizes()
            self.initialize()
        self._make_sampler()._validate_params()
        self._note_preparation()
        size = getattr(self._towers, "embedding_size", 3)  # a module of one's own
        if reset and (fault := says_nothing(size, self.metric)):
            fault += " Their length is module__embedding_size."
            warnings.warn(fault, JointSpaceWarning, stacklevel=4)
        dataset = self._prepare_pairs(X, y, groups, split, weights)
        if len(np.unique(dataset.drugs[dataset.train])) < 2:
            raise ValueError(
                "CoordinatedEmbedder needs profiles of at least 2 drugs, to tell them "
                f"apart. Got {len(dataset.train):,} of one drug."
            )
        if dataset.molecules.features is not None:
            features = dataset.molecules.features.cpu().numpy()
            check_resolution(features, name="features of X")
        if reset:
            self._towers.learn(
                dataset.molecules,
                dataset.molecule_of[dataset.train],
                dataset.profiles[torch.from_numpy(dataset.train)],
                batch_size=self.batch_size,
                seed=self.seed_,
                # A module of one's own may know no weights.
                **({} if weights is None else {"weights": weights[dataset.train]}),
            )
        return dataset

    def _fit_features(self, X):
        """Fit `molecule_features` on distinct molecules, and count its features."""
        self.molecule_features_ = None
        self.n_molecule_features_ = 0 if is_text(X) else X.shape[1]
        if self.molecule_features is not None:
            distinct = factorize_texts(X)[1] if is_text(X) else np.unique(X, axis=0)
            self.molecule_features_ = clone(self.molecule_features).fit(distinct)
            one = as_feature_tensor(self.molecule_features_.transform(distinct[:1]))
            self.n_molecule_features_ = one.shape[1]

    def _refuse_other_sizes(self):
        given = self.get_params_for("module")
        for name, found in (
            ("n_genes", self.n_genes_in_),
            ("n_features", self.n_molecule_features_),
        ):
            if given[name] != found:
                raise ValueError(
                    f"module__{name} is {given[name]}, and the data have {found}."
                )

    def transform(self, X) -> NDArray[np.float32]:
        """Embed molecules.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecules, as in `fit`.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, embedding_size), float32
            In the joint space; each distinct molecule is computed once.
        """
        check_is_fitted(self)
        molecules, index = self._molecule_inputs(X)
        embedded = self._project_molecules(molecules, np.arange(len(molecules)))[index]
        return check_finite(embedded, name="X", of="the embedding")

    def transform_ge(self, y) -> NDArray[np.float32]:
        """Embed profiles.

        Parameters
        ----------
        y : array-like of shape (n_samples, n_genes)
            Profiles.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, embedding_size), float32
            In the joint space.
        """
        embedded = self._project_profiles(self._profiles(y))
        return check_finite(embedded, name="y", of="the embedding")

    def _molecule_inputs(self, X):
        check_is_fitted(self)
        X = check_molecules(self, X, reset=False)
        with parsed_once():
            return MoleculeInputs.prepare(
                X, mode=self.encoder_mode_, features=self.molecule_features_
            )

    def _profiles(self, y):
        check_is_fitted(self)
        return as_tensor(check_profiles(self, y, reset=False, dtype=np.float32))

    # -- on tensors ------------------------------------------------------------------

    def molecule_tensors(self, X):
        """Return molecules as the molecule tower takes them.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecules, as in `fit`.

        Returns
        -------
        graphs : GraphBatch or None
            The graphs of the molecules side by side, on the network's device: `V` are
            the features of the atoms, `bond_features` those of the bonds, `bonds` the
            two atoms of each bond and `n_atoms` the number of atoms of each molecule.
            None with ``encoder=None``.
        features : Tensor of shape (n_samples, n_features) or None
            Molecule features, on the network's device.
        """
        molecules, index = self._molecule_inputs(X)
        parts, device = molecules.take(index), self._module_device
        graphs, features = (None if p is None else p.to(device) for p in parts)
        return graphs, features

    def profile_tensor(self, y):
        """Return profiles as the first layer of the expression tower takes them.

        Parameters
        ----------
        y : array-like of shape (n_samples, n_genes)
            Profiles.

        Returns
        -------
        profiles : Tensor of shape (n_samples, n_genes)
            On the network's device; of unit length with ``module__unit_profiles``.
        """
        profiles = self._profiles(y).to(self._module_device)
        return self._towers.prepare_profiles(profiles)

    def embed_molecules(self, graphs, features):
        """Project tensors of molecules into the joint space, with a gradient.

        ``embed_molecules(*molecule_tensors(X))`` is ``transform(X)`` as a tensor that
        can be differentiated by features of atoms, of bonds and of molecules.

        Parameters
        ----------
        graphs : GraphBatch or None
            As of :meth:`molecule_tensors`; ``type(graphs)(V, bond_features, bonds,
            n_atoms)`` makes one of other features.
        features : Tensor of shape (n_molecules, n_features) or None
            As of :meth:`molecule_tensors`.

        Returns
        -------
        embeddings : Tensor of shape (n_molecules, embedding_size)
            Dropout is off.
        """
        check_is_fitted(self)
        return self._towers.eval().embed_molecules(graphs, features)

    def embed_profiles(self, profiles):
        """Project a tensor of profiles into the joint space, with a gradient.

        ``embed_profiles(profile_tensor(y))`` is ``transform_ge(y)`` as a tensor that
        can be differentiated by the genes.

        Parameters
        ----------
        profiles : Tensor of shape (n_profiles, n_genes)
            As of :meth:`profile_tensor`.

        Returns
        -------
        embeddings : Tensor of shape (n_profiles, embedding_size)
            Dropout is off.

        Examples
        --------
        How much each gene changes the first coordinate of a profile:

        >>> import torch
        >>> from sklearn_molge.alignment import CoordinatedEmbedder
        >>> from sklearn_molge.datasets import make_perturbation_study
        >>> study = make_perturbation_study(20, n_cell_lines=2, random_state=0)
        >>> net = CoordinatedEmbedder(
        ...     encoder__hidden_size=8, max_epochs=1, random_state=0
        ... ).fit(study.smiles, study.ge)
        >>> profile = net.profile_tensor(study.ge[:1]).requires_grad_()
        >>> (gradient,) = torch.autograd.grad(
        ...     net.embed_profiles(profile)[0, 0], profile
        ... )
        >>> gradient.shape
        torch.Size([1, 978])
        """
        check_is_fitted(self)
        return self._towers.eval().embed_profiles(profiles)

    def molecule_encoder(self) -> FittedTower:
        """Return the fitted molecule tower as a transformer of molecules.

        Returns
        -------
        encoder : FittedTower
            ``transform(X)`` projects into the joint space; a Pipeline step before
            another retriever. `fit` and `clone` leave it as it is.
        """
        check_is_fitted(self)
        return FittedTower(self, view="molecules")

    def expression_encoder(self) -> FittedTower:
        """Return the fitted expression tower as a transformer of profiles.

        Returns
        -------
        encoder : FittedTower
            ``transform(y)`` projects into the joint space: the transformer of a
            :class:`~sklearn_molge.retrieval.TransformedTargetRetriever`.
        """
        check_is_fitted(self)
        return FittedTower(self, view="profiles")

    def save_encoder(self, path) -> None:
        """Write the trained graph network as a chemprop checkpoint.

        Parameters
        ----------
        path : path-like
            A chemprop v2 file, for property models; see
            :class:`~sklearn_molge.molecules.ChempropEmbedder`.
        """
        check_is_fitted(self)
        encoder = self._towers.molecule_tower.encoder
        if encoder is None:
            raise ValueError(
                "save_encoder needs a graph network, and encoder=None has none."
            )
        save_encoder(encoder, path)

    @property
    def _n_features_out(self):
        return self.module_.embedding_size

    def __sklearn_is_fitted__(self):
        parts = hasattr(self, "module_") and hasattr(self, "molecule_features_")
        return parts and self._has_weights

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        takes_smiles = self.encoder is not None or self.molecule_features is not None
        tags.input_tags.one_d_array = takes_smiles
        tags.input_tags.two_d_array = not takes_smiles
        tags.input_tags.string = takes_smiles
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
