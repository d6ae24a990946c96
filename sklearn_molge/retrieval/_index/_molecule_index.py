"""A library of molecules that can be searched with profiles."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import HasMethods, Interval, StrOptions, _fit_context
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.retrieval._index._background import Background
from sklearn_molge.retrieval._index._building import (
    SkippedRows,
    add_library,
    check_library,
    is_complete,
    unfinished_start,
)
from sklearn_molge.retrieval._index._embedding import embed_profiles
from sklearn_molge.retrieval._index._faiss import FaissSearcher
from sklearn_molge.retrieval._index._folder import (
    check_identity,
    choose_metric,
    describe_index,
    load_embedder,
    make_store,
    save_embedder,
)
from sklearn_molge.retrieval._index._queries import ProfileQueries
from sklearn_molge.retrieval._index._search import top_k
from sklearn_molge.retrieval._index._sources import as_source
from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["MoleculeIndex"]


class MoleculeIndex(ProfileQueries, BaseEstimator):
    """Library of molecules, embedded once, in which profiles are looked up.

    A fitted embedder leads molecules and profiles into one space. The index keeps the
    library there: in memory, or in a folder that is memory-mapped when it is opened.
    A query embeds the profile and compares it with every molecule.

    Parameters
    ----------
    estimator : estimator
        A fitted embedder of SMILES and profiles: a Pipeline, search or wrapper that
        ends in :class:`~sklearn_molge.alignment.CCA`,
        :class:`~sklearn_molge.alignment.CoordinatedEmbedder` or another two-view
        estimator with ``transform`` and ``transform_ge``. It is used as it is, not
        cloned.
    metric : {"auto", "correlation", "cosine", "dot", "euclidean"}, default="auto"
        How the joint space is compared; "auto" takes the `metric` of the embedder. See
        :func:`~sklearn_molge.metrics.pairwise_similarity`.
    backend : {"exact", "faiss"}, default="exact"
        "exact" compares a query with every molecule, in blocks. "faiss" (the extra
        ``faiss``) builds an approximate index beside the vectors, for libraries of
        more than a few million.
    faiss_factory : str, default=None
        What faiss is to build, in the words of its ``index_factory``; by default
        chosen by the number of molecules. Only for ``backend="faiss"``.
    faiss_parameters : dict, default=None
        How that is searched, by the names of faiss's ``ParameterSpace``, such as
        ``{"nprobe": 64}``; by default, of `l` lists ``2 sqrt(l)`` are looked through.
    dtype : {"float32", "float16", "int8"}, default="float32"
        How the vectors are stored: 4, 2 or 1 bytes a component. Queries stay float32.
    path : path-like, default=None
        Folder of the index, made by `fit`. None keeps it in memory.
    unique_by : {"drug", "smiles"} or None, default="drug"
        When two rows are one molecule: "drug" by
        :func:`~sklearn_molge.molecules.drug_ids`, so that salts, isomers and spellings
        of one drug are one candidate, as in all scores of this library; "smiles" by
        the text, which is faster; the first row is kept and the others are listed in
        ``skipped_``. None keeps every row.
    batch_size : int, default=4096
        Molecules that are embedded at a time. A kill can cost 16 batches.
    on_bad_smiles : {"drop", "raise"}, default="drop"
        What to do with rows that are no molecule: leave them out and list them in
        ``skipped_``, or raise before anything is embedded.
    n_jobs : int, default=None
        Processes that embed, on any backend of joblib; None is 1, or as a
        ``joblib.parallel_config`` says. The result does not depend on it.
    progress : bool or "auto", default="auto"
        Show a progress bar; "auto": on a terminal, after two seconds.

    Attributes
    ----------
    n_molecules_ : int
        Molecules that can be found.
    metric_ : str
        The metric in use.
    n_rows_ : int
        Rows of the index, removed ones included; they are numbered from 0 and keep
        their numbers.
    skipped_ : DataFrame
        Rows of the library that are not in the index: ``row`` (its number in what was
        given), ``entry`` and ``reason``.
    nbytes_ : int
        Bytes of vectors, SMILES, names and identities, in memory or on disk.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : The same form, on arrays.
    sklearn_molge.molecules.MoleculeFile : A library in a file.
    sklearn_molge.expression.profile_from_genes : A profile from up and down genes.

    Notes
    -----
    The folder holds arrays, texts and a manifest in JSON, and the embedder as a joblib
    pickle: opening a folder from a source that is not trusted runs its code, unless
    the embedder is given to :meth:`open`. A few fixed molecules are embedded when it
    is made and when it is opened, so that an index is never searched with another
    embedder than the one that made it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.retrieval import MoleculeIndex
    >>> X = np.array(["CCO", "CCN", "CCCl", "c1ccccc1O"], dtype=object)
    >>> y = np.random.default_rng(0).normal(size=(4, 5))
    >>> embedder = make_pipeline(MorganFingerprinter(fp_size=64), CCA(2, ridge=0.1))
    >>> index = MoleculeIndex(embedder.fit(X, y))
    >>> index.fit(["CCCO", "not a molecule", "Oc1ccccc1C"], names=["a", "b", "c"])
    MoleculeIndex(...)
    >>> index.skipped_
       row           entry              reason
    0    1  not a molecule  not a valid SMILES
    >>> distances, rows = index.kneighbors(y[:1], n_neighbors=2)
    >>> rows.shape
    (1, 2)
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"])],
        "metric": [StrOptions({"auto", "correlation", "cosine", "dot", "euclidean"})],
        "backend": [StrOptions({"exact", "faiss"})],
        "faiss_factory": [str, None],
        "faiss_parameters": [dict, None],
        "dtype": [StrOptions({"float32", "float16", "int8"})],
        "path": [str, os.PathLike, None],
        "unique_by": [StrOptions({"drug", "smiles"}), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "on_bad_smiles": [StrOptions({"drop", "raise"})],
        "n_jobs": [Integral, None],
        "progress": ["boolean", StrOptions({"auto"})],
    }

    def __init__(
        self,
        estimator,
        *,
        metric="auto",
        backend="exact",
        faiss_factory=None,
        faiss_parameters=None,
        dtype="float32",
        path=None,
        unique_by="drug",
        batch_size=4096,
        on_bad_smiles="drop",
        n_jobs=None,
        progress="auto",
    ):
        self.estimator = estimator
        self.metric = metric
        self.backend = backend
        self.faiss_factory = faiss_factory
        self.faiss_parameters = faiss_parameters
        self.dtype = dtype
        self.path = path
        self.unique_by = unique_by
        self.batch_size = batch_size
        self.on_bad_smiles = on_bad_smiles
        self.n_jobs = n_jobs
        self.progress = progress

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, names=None):
        """Embed a library.

        Where `path` holds the unfinished work of the same embedder on the same
        library, it goes on; where it holds all of it, nothing is left to do.

        Parameters
        ----------
        X : array-like of shape (n_molecules,), iterable, Path or MoleculeFile
            SMILES; or what yields SMILES or pairs (SMILES, name), one by one and in an
            order that does not change; or a file, see
            :class:`~sklearn_molge.molecules.MoleculeFile`.
        y : Ignored
            Not used, present for API consistency.
        names : array-like of shape (n_molecules,), default=None
            Name of each molecule, where X is an array.

        Returns
        -------
        self : object
            The index.

        Raises
        ------
        InvalidSmilesError
            With ``on_bad_smiles="raise"``: every bad row.
        FileExistsError
            If `path` holds another library, or something else.
        TypeError, ValueError
            If `estimator` embeds no molecules and profiles, or takes no SMILES.
        """
        source = as_source(X, names)
        settings = {
            "dtype": self.dtype,
            "metric": choose_metric(self.estimator, self.metric),
            "identity": describe_index(self.estimator, self.unique_by),
        }
        if self.on_bad_smiles == "raise":
            check_library(source, self.batch_size, self.n_jobs)
        store = make_store(self.path, source, **settings)
        if store.path is not None:
            save_embedder(store.path, self.estimator)
        self._adopt(store)
        if not is_complete(store, source):
            self._add(source)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y=None, *, names=None):
        """Add molecules; what is there stays as it is.

        Parameters
        ----------
        X : array-like of shape (n_molecules,), iterable, Path or MoleculeFile
            As in :meth:`fit`. Where an interrupted library is not finished, it must be
            that one, and goes on.
        y : Ignored
            Not used, present for API consistency.
        names : array-like of shape (n_molecules,), default=None
            Name of each molecule, where X is an array.

        Returns
        -------
        self : object
            The index.

        Raises
        ------
        InvalidSmilesError
            With ``on_bad_smiles="raise"``: every bad row.
        ValueError
            If another library is not finished.
        """
        if not hasattr(self, "store_"):
            return self.fit(X, names=names)
        source = as_source(X, names)
        if self.on_bad_smiles == "raise":
            check_library(source, self.batch_size, self.n_jobs)
        self._add(source)
        return self

    def remove(self, molecules):
        """Take molecules out; the others keep their rows.

        Parameters
        ----------
        molecules : str or array-like of shape (n_molecules,)
            SMILES; every row that is the same molecule goes.

        Returns
        -------
        self : object
            The index.

        Raises
        ------
        ValueError
            With index and text of every molecule that is not in the index; nothing is
            removed then.
        """
        check_is_fitted(self)
        smiles = as_smiles_array(
            [molecules] if isinstance(molecules, str) else molecules
        )
        rows = self._find(smiles, "molecules")
        if rows:
            self._writable().remove(np.unique(np.concatenate(rows)))
        return self

    def calibrate(self, X=None, y=None):
        """Learn what answers are to be compared with, in the place of what was known.

        Parameters
        ----------
        X : array-like of shape (n_molecules,), default=None
            SMILES that the embedder was trained on. :meth:`query` then tells the
            nearest of them to each answer.
        y : array-like of shape (n_profiles, n_genes), default=None
            A background of profiles, such as those of the training set. :meth:`query`
            then tells the percentile of each score among the scores of these profiles
            with the same molecule: some molecules are close to every profile.

        Returns
        -------
        self : object
            The index.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry of X.
        """
        check_is_fitted(self)
        embedded = None if y is None else embed_profiles(self.estimator, y)
        self.background_ = Background.make(embedded, X)
        if self.store_.path is not None:
            self.background_.save(self.store_.path)
        return self

    @classmethod
    def open(cls, path, *, estimator=None, **params):
        """Open the folder of an index; vectors and texts are memory-mapped.

        Parameters
        ----------
        path : path-like
            The folder.
        estimator : estimator, default=None
            The embedder. None unpickles the one in the folder, which runs the code
            that it names.
        **params : dict
            Other parameters of the class, such as `backend`.

        Returns
        -------
        index : MoleculeIndex
            Fitted. Of an unfinished library it holds what is there; ``partial_fit``
            with that library goes on.

        Raises
        ------
        FileNotFoundError, ValueError
            If `path` is not an index, it is damaged, or `estimator` is another
            embedder than the one that made it.
        """
        path = Path(path)
        store = VectorStore.open(path)
        if estimator is None:
            estimator = load_embedder(path)
        own = {"metric": store.metric, "dtype": store.dtype}
        unique_by = store.identity["unique_by"]
        index = cls(estimator, path=path, unique_by=unique_by, **own, **params)
        check_identity(store.identity, describe_index(estimator, unique_by), path)
        index._adopt(store)
        return index

    def _adopt(self, store):
        self.store_ = store
        self.metric_ = store.metric
        self.background_ = None if store.path is None else Background.load(store.path)
        self._skipped = SkippedRows.of_store(store)
        self._faiss = None

    def _add(self, source):
        """Embed a library, or what is left of it."""
        store = self._writable()
        add_library(
            store,
            self.estimator,
            source,
            self._skipped,
            start=unfinished_start(store, source) or 0,
            unique_by=self.unique_by,
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
            on_bad_smiles=self.on_bad_smiles,
            progress=self.progress,
        )

    def _writable(self):
        """Return the store, opened for writing."""
        path = self.store_.path
        if path is not None and not self.store_.writable:
            self.store_ = VectorStore.open(path, writable=True)
        return self.store_

    def _search(self, queries, n_neighbors, *, reverse):
        if self.backend == "exact":
            return top_k(self.store_, queries, n_neighbors, reverse=reverse)
        if self._faiss is None or self._faiss.store is not self.store_:
            self._faiss = FaissSearcher(
                self.store_,
                factory=self.faiss_factory,
                parameters=self.faiss_parameters,
            )
        return self._faiss.top_k(queries, n_neighbors, reverse=reverse)
