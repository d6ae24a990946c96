"""A library of molecules that can be searched with profiles."""

from __future__ import annotations

import os
from copy import copy
from numbers import Integral, Real
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import HasMethods, Interval, StrOptions, _fit_context
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.library._answers import (
    Background,
    answer_table,
    molecule_table,
    skipped_table,
)
from sklearn_molge.library._build import (
    add_library,
    check_library,
    check_some_readable,
)
from sklearn_molge.library._embedder import choose_metric, own_copy
from sklearn_molge.library._faiss import FaissSearcher
from sklearn_molge.library._file import Source, as_source
from sklearn_molge.library._folder import (
    check_settings,
    has_embedder,
    load_embedder,
    made_with,
    make_store,
    open_store,
    save_embedder,
)
from sklearn_molge.library._identity import (
    check_identity,
    check_unchanged,
    describe_index,
)
from sklearn_molge.library._libraries import is_complete
from sklearn_molge.library._query_answer import QueryAnswer
from sklearn_molge.library._rerank import Cascade
from sklearn_molge.library._search import top_k
from sklearn_molge.library._searcher import Searcher
from sklearn_molge.library._store import VectorStore

__all__ = ["MoleculeIndex"]


class MoleculeIndex(BaseEstimator):
    """Library of molecules, embedded once, in which profiles are looked up.

    A fitted embedder projects molecules and profiles into one space. The index keeps
    the library there, in memory or in a folder. A query embeds the profile and compares
    it with every molecule.

    Parameters
    ----------
    estimator : estimator
        A fitted two-view estimator of SMILES and profiles, or a Pipeline, search or
        wrapper that ends in one: an embedder (with ``transform`` and ``transform_ge``)
        such as :class:`~sklearn_molge.alignment.CCA` or
        :class:`~sklearn_molge.alignment.CoordinatedEmbedder`, a
        :class:`~sklearn_molge.retrieval.VotingRetriever`, or, with `candidates_by`, any
        retriever. `fit` keeps a copy of it as it is fitted then, ``estimator_``:
        fitting `estimator` again, or setting its parameters, does not change the index.
    candidates_by : estimator, default=None
        A fitted embedder of SMILES and the same profiles, in whose joint space the
        candidates are found that `estimator` ranks; needed where it has no joint space,
        such as a :class:`~sklearn_molge.retrieval.DoubleNNRetriever`. See the Notes.
    n_candidates : int, default=1000
        How many candidates `estimator` scores for each query, from their SMILES. Not
        used where its similarity is that of its joint space.
    genes : DataFrame or array-like of str, default=None
        The genes of a profile of the estimator, in their order: a table with
        ``gene_id`` (Entrez), ``symbol`` or both, as ``study.genes``, or names. Queries
        whose genes have names (DataFrame, AnnData, GCT, gene lists) are aligned by
        them; by default by the names that the estimator was fitted on, if any.
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
    folder : path-like, default=None
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
        ``joblib.parallel_config`` says. The result does not depend on it, but for
        molecules that end the process that embeds them: with 2 or more they are listed
        in ``skipped_``.
    progress : bool or "auto", default="auto"
        Show a progress bar; "auto": on a terminal and in a
        notebook, after two seconds.

    Attributes
    ----------
    estimator_ : estimator
        The index's own copy of the fitted estimator.
    candidates_by_ : estimator or None
        Its own copy of `candidates_by`.
    reranks_ : bool
        Whether candidates are found in a joint space and then scored by the estimator.
    reverses_by_sign_ : bool
        Whether what reverses a profile is what mimics its opposite: where a low
        similarity need not mean an opposite effect, as that of a Gaussian process.
    n_molecules_ : int
        Molecules that can be found.
    metric_ : str
        The metric of the joint space; "dot" for a vote.
    n_rows_ : int
        Rows of the index, removed ones included; they are numbered from 0 and keep
        their numbers.
    skipped_ : DataFrame
        Rows of the libraries that are not in the index: ``library`` (the first one that
        was given is 0, the next one 1), ``library_row`` (the row in it, from 0),
        ``entry``, ``reason`` and ``same_as``: the `index_row` of the same molecule,
        missing where there is none. All rows of a molecule are its own and those.
    nbytes_ : int
        Bytes of the vectors and of the database, in memory or on disk.

    See Also
    --------
    sklearn.neighbors.NearestNeighbors : The same form, on arrays.
    MoleculeFile : A library in a file.
    sklearn_molge.expression.profile_from_genes : A profile from up and down genes.

    Notes
    -----
    The similarity of an embedder is the metric of its joint space, and every molecule
    is compared. That of a :class:`~sklearn_molge.alignment.GaussianProcessRetriever` is
    a product too, in a space of its own (``similarity_space``, which other embedders
    may have as well). So is that of a
    :class:`~sklearn_molge.retrieval.VotingRetriever` of
    embedders with the metrics "correlation", "cosine" or "dot": their vectors lie side
    by side, and one product is the vote, standardised over the library (a larger one
    than 131,072 molecules: over so many of them).

    Any other retriever ranks in two steps (``reranks_``). The best `n_candidates` are
    found in a joint space: that of `candidates_by`, of an embedder whose similarity is
    more than a metric, or of those members of a vote that have one. These are scored by
    the retriever itself, which computes their features again. Answers are in the order
    of its scores; what is no candidate is not among them, and :meth:`rank` puts it
    behind all candidates. A vote is then standardised over at most 2,048 molecules of
    the library, always the same ones. p-values, q-values and percentiles are of the
    retriever's scores too: of permuted profiles, see :meth:`significance`, and of the
    background of :meth:`calibrate`. So the retriever scores each permutation with the
    answers and with at most 2,048 molecules of the library.

    *Sets of a* :class:`~sklearn_molge.retrieval.ConformalRetriever`. A library is no
    list like those that calibrate, so its sets go by the similarity alone
    (``least_similarity``): if a profile was made as those of the training were, and its
    molecule was not among these and is in the library, the set holds it with the
    probability `coverage`. Mostly such a set is large. There are none of lists of
    genes, of several profiles together, with `reverse`, by another metric than the
    estimator's, and of a standardised vote.

    The folder holds a database of SQLite with all texts, a file of vectors that is
    memory-mapped, and the embedder as a pickle, signed by your installation: that of
    somebody else is run by :meth:`open` only where you say so.
    Rows count once a transaction says so, after their vectors have reached the disk: a
    kill leaves the rows of the last one. All of it has checksums, see `verify` of
    :meth:`open`. A few fixed molecules and profiles are
    embedded when the index is made, opened, extended and asked, so that it is never
    searched with another embedder than the one that made it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.library import MoleculeIndex
    >>> X = np.array(["CCO", "CCN", "CCC", "c1ccccc1O", "CC=O"], dtype=object)
    >>> y = np.random.default_rng(0).normal(size=(5, 5))
    >>> embedder = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    >>> index = MoleculeIndex(embedder.fit(X, y))
    >>> index.fit(["CCCO", "not a molecule", "Oc1ccccc1C"], names=["a", "b", "c"])
    MoleculeIndex(...)
    >>> index.skipped_
       library  library_row           entry              reason  same_as
    0        0            1  not a molecule  not a valid SMILES     <NA>
    >>> distances, rows = index.kneighbors(y[:1], n_neighbors=2)
    >>> rows.shape
    (1, 2)
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"])],
        "candidates_by": [HasMethods(["fit"]), None],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "genes": [pd.DataFrame, "array-like", None],
        "metric": [StrOptions({"auto", "correlation", "cosine", "dot", "euclidean"})],
        "backend": [StrOptions({"exact", "faiss"})],
        "faiss_factory": [str, None],
        "faiss_parameters": [dict, None],
        "dtype": [StrOptions({"float32", "float16", "int8"})],
        "folder": [str, os.PathLike, None],
        "unique_by": [StrOptions({"drug", "smiles"}), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "on_bad_smiles": [StrOptions({"drop", "raise"})],
        "n_jobs": [Integral, None],
        "progress": ["boolean", StrOptions({"auto"})],
    }
    store_: VectorStore
    background_: Background | None

    def __init__(
        self,
        estimator,
        *,
        candidates_by=None,
        n_candidates=1000,
        genes=None,
        metric="auto",
        backend="exact",
        faiss_factory=None,
        faiss_parameters=None,
        dtype="float32",
        folder=None,
        unique_by="drug",
        batch_size=4096,
        on_bad_smiles="drop",
        n_jobs=None,
        progress="auto",
    ):
        self.estimator = estimator
        self.candidates_by = candidates_by
        self.n_candidates = n_candidates
        self.genes = genes
        self.metric = metric
        self.backend = backend
        self.faiss_factory = faiss_factory
        self.faiss_parameters = faiss_parameters
        self.dtype = dtype
        self.folder = folder
        self.unique_by = unique_by
        self.batch_size = batch_size
        self.on_bad_smiles = on_bad_smiles
        self.n_jobs = n_jobs
        self.progress = progress

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, names=None, columns="all") -> Self:
        """Embed a library.

        Where `folder` holds the unfinished work of the same embedder on the same
        library, it goes on; where it holds all of it, nothing is left to do.

        Parameters
        ----------
        X : array-like of shape (n_molecules,), iterable, DataFrame, path, MoleculeFile
            SMILES; or what yields SMILES or pairs (SMILES, name), one by one and in an
            order that does not change; or a table, whose columns are found by their
            names; or a file or its path, see :class:`MoleculeFile`.
        y : Ignored
            Not used, present for API consistency.
        names : array-like of shape (n_molecules,) or str, default=None
            Name of each molecule, where X is an array, or the column of a DataFrame.
        columns : "all", list of str, mapping or None, default="all"
            Further columns, such as a catalogue number, a price or a mechanism, which
            answers then show: of a table or a file all or some by name, beside an array
            a dict or DataFrame of columns; None are none. A
            :class:`MoleculeFile` with `columns` of its own keeps those.

        Returns
        -------
        self : object
            The index.

        Raises
        ------
        InvalidSmilesError
            With ``on_bad_smiles="raise"``: every bad row.
        FileExistsError
            If `folder` holds another library, or something else.
        TypeError, ValueError
            If `estimator` embeds no molecules and profiles, or takes no SMILES, or no
            row of X can be used.

        Warns
        -----
        LibraryWarning
            If less than 90 % of the rows of X are molecules, or some cannot be
            embedded; or if a process died.
        PickledModelWarning
            If `folder` keeps the estimator as a pickle, since a part of it, such as a
            lambda or a class of your own, cannot be in a model file.
        """
        source = as_source(X, names, columns)
        if self.unique_by == "drug":  # otherwise the embedder alone reads them
            check_some_readable(source)
        settings = self._settings()
        if self.on_bad_smiles == "raise":
            check_library(source, self.batch_size, self.n_jobs)
        own = own_copy(self._given())
        store = make_store(self.folder, source, **settings)
        self._adopt(store, own)
        complete = is_complete(store, source)
        if complete and (store.folder is None or has_embedder(store.folder)):
            return self
        with store.writing():
            if store.folder is not None:
                save_embedder(store.folder, own)
            if not complete:
                self._add(source)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(self, X, y=None, *, names=None, columns="all") -> Self:
        """Add molecules; what is there stays as it is.

        A library that is in the index already, all its rows in their order, is not
        added again. Of one that begins with a library that is there, such as a file
        that has grown, the rows behind it are added. A warning says so.

        Parameters
        ----------
        X : array-like of shape (n_molecules,), iterable, DataFrame, path, MoleculeFile
            As in :meth:`fit`. Where an interrupted library is not finished, it must be
            that one, and goes on.
        y : Ignored
            Not used, present for API consistency.
        names, columns
            As in :meth:`fit`.

        Returns
        -------
        self : object
            The index.

        Raises
        ------
        InvalidSmilesError
            With ``on_bad_smiles="raise"``: every bad row.
        ValueError
            If another library is not finished, no row of X can be used, or a parameter
            that decides what rows are was changed since `fit`: among them an
            `estimator` that was fitted again.

        Warns
        -----
        LibraryWarning
            If X, or its beginning, is in the index already; less than 90 % of its rows
            are molecules; or some cannot be embedded.
        """
        if not hasattr(self, "store_"):
            return self.fit(X, names=names, columns=columns)
        self._check_parameters()
        source = as_source(X, names, columns)
        if self._unique_by == "drug":
            check_some_readable(source)
        if self.on_bad_smiles == "raise":
            check_library(source, self.batch_size, self.n_jobs)
        self._add(source)
        return self

    def remove(self, molecules) -> Self:
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
        searcher = self._searcher
        smiles = as_smiles_array(
            [molecules] if isinstance(molecules, str) else molecules
        )
        rows = searcher.find(smiles, "molecules")
        if rows:
            self.store_.remove(np.concatenate(rows))
        return self

    def calibrate(self, X=None, y=None) -> Self:
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
        profiles = None
        if y is not None:
            profiles = self._searcher.read(y)[0]
            embedded = self._searcher.embed(profiles)  # which also checks them
            profiles = profiles if self.reranks_ else embedded
        background = Background.make(profiles, X)
        if self.store_.folder is not None:
            background.save(self.store_)
        self.background_: Background | None = background
        return self

    @classmethod
    def open(
        cls, folder, *, estimator=None, trust=False, verify=False, **params
    ) -> MoleculeIndex:
        """Open the folder of an index; no molecule is read until it is needed.

        Parameters
        ----------
        folder : path-like
            The folder.
        estimator : estimator, default=None
            The embedder. None opens the one in the folder: a model file (see
            :func:`~sklearn_molge.persistence.load_model`), which runs no code whoever
            wrote it; or, where no model file can hold it, a pickle, if you wrote it:
            each user's installation signs its own.
        trust : bool, default=False
            Unpickle an embedder that is a pickle whoever wrote it, which runs the code
            that it names. Only for folders of people whom you trust.
        verify : bool, default=False
            Read everything, and compare it with the checksums that were written with
            it. Otherwise the settings, the removed rows and what :meth:`calibrate`
            wrote are compared, and the sizes of all parts, which costs no time; a bit
            that flipped in a vector or a text goes unseen. See :func:`verify_index`.
        **params : dict
            Other parameters of the class, such as `backend`.

        Returns
        -------
        index : MoleculeIndex
            Fitted. Of an unfinished library it holds what is there; ``partial_fit``
            with that library goes on.

        Raises
        ------
        UntrustedFileError
            If the embedder in the folder is a pickle that another user or installation
            wrote, or that was changed since: with what it would run.
        FileNotFoundError
            If `folder` is not that of an index, or one of its files is missing.
        CorruptFileError
            If it is damaged.
        ValueError
            If it is of an earlier release, or `estimator` is another embedder than the
            one that made it.
        """
        _check_flags(trust=trust, verify=verify)
        folder = Path(folder)
        store = open_store(folder, trust=bool(trust), verify=bool(verify))
        if estimator is None:
            loaded = load_embedder(folder, trust=bool(trust))
            estimator = loaded.estimator
            params = {"candidates_by": loaded.candidates_by, **params}
        params = {**made_with(store), **params}
        index = cls(estimator, folder=folder, **params)
        ours = describe_index(index._given(), index.unique_by, index.genes)
        check_identity(store.identity, ours, f"the index in {str(folder)!r}")
        index._adopt(store, own_copy(index._given()))
        return index

    # What it holds

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return it as other estimators are shown, with the number of the genes."""
        shown = copy(self)
        if shown.genes is not None:
            shown.genes = _Told(f"<{len(self.genes):,} genes>")
        return super(MoleculeIndex, shown).__repr__(N_CHAR_MAX)

    @property
    def n_molecules_(self) -> int:
        """Molecules that can be found."""
        return self.store_.n_active

    @property
    def n_rows_(self) -> int:
        """Rows, removed ones included."""
        return self.store_.n_rows

    @property
    def nbytes_(self) -> int:
        """Bytes of the vectors and of the database."""
        return self.store_.nbytes

    @property
    def skipped_(self) -> pd.DataFrame:
        """Rows of the library that are not in the index, and why."""
        return skipped_table(self.store_)

    # What it answers

    def kneighbors(
        self, y, n_neighbors=10, *, groups=None, reverse=False, return_distance=True
    ):
        """Find the molecules that are closest to each profile.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes), AnnData, GctData or GeneQuery
            Profiles, as the embedder was fitted on them. Genes that have names are
            aligned by them: what is missing is named in a warning and counts as 0,
            unchanged; less than half of the genes is an error.
        n_neighbors : int, default=10
            Molecules for each query.
        groups : array-like of shape (n_profiles,), default=None
            The condition of each profile. Profiles of one condition (replicates, cell
            lines) are one query, their mean in the joint space; queries are sorted by
            condition then. None makes each profile a query.
        reverse : bool, default=False
            Look for what reverses the profiles, as a disease: for the molecules of
            lowest similarity in the joint space. (What mimics ``-y`` is another answer,
            since an embedding subtracts a mean.) Where a low score need not mean an
            opposite effect (``reverses_by_sign_``), what is asked is ``-y``, for which
            `y` must have a sign, as z-scores have.
        return_distance : bool, default=True
            Whether to return distances too.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors)
            1 - similarity for "correlation" and "cosine", the distance for
            "euclidean", minus the product for "dot", minus the estimator's similarity
            for candidates that it scored (with `reverse` to ``-y``); the best first:
            ascending, with `reverse` in the joint space descending. Only with
            `return_distance`.
        rows : ndarray of int of shape (n_queries, n_neighbors)
            Rows of the index, not of the library that was given: :meth:`get_molecules`
            tells those. Equally close ones come in the order of their rows.

        Raises
        ------
        ValueError
            If `n_neighbors` is more than there are molecules, or candidates that are
            scored, `y` is no array of profiles, or `reverse` is to turn the sign of a
            profile whose values are all above 0.
        """
        _check_flags(reverse=reverse, return_distance=return_distance)
        searcher = self._searcher
        queries, least = searcher.ask(y, groups, reverse)
        scores, rows, _ = searcher.top_k(queries, n_neighbors, least)
        if not return_distance:
            return rows
        is_angle = self.metric_ in ("correlation", "cosine") and not self.reranks_
        one = 1 if is_angle else 0
        return one - scores, rows

    def rank(self, y, molecules, *, groups=None, reverse=False) -> NDArray[np.float64]:
        """Rank a molecule among all molecules of the index.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.
        molecules : str or array-like of shape (n_queries,)
            SMILES of the molecule to rank, one for all queries or one for each.
        groups : array-like of shape (n_profiles,), default=None
            As in :meth:`kneighbors`.
        reverse : bool, default=False
            As in :meth:`kneighbors`: whether the lowest similarity is the best, or that
            to ``-y``.

        Returns
        -------
        ranks : ndarray of shape (n_queries,)
            Mid-ranks, 1 being the best, as of
            :func:`~sklearn_molge.metrics.retrieval_ranks`. Where rows of the index are
            one molecule (``unique_by=None``), its best row counts. Where candidates are
            scored by the estimator, a molecule among them has its rank there, and
            another one its rank in the joint space, at least `n_candidates` + 1.

        Raises
        ------
        ValueError
            With index and text of every molecule that is not in the index.
        InvalidSmilesError
            If one is not a molecule.
        """
        _check_flags(reverse=reverse)
        searcher = self._searcher
        queries, least = searcher.ask(y, groups, reverse)
        if isinstance(molecules, str):
            molecules = [molecules] * len(queries)
        smiles = as_smiles_array(molecules)
        check_consistent_length(queries.vectors, smiles)
        own = searcher.find(smiles, "molecules")
        return searcher.rank(queries, own, reverse=least)

    def significance(
        self,
        y,
        *,
        groups=None,
        reverse=False,
        n_permutations=999,
        level=0.05,
        random_state=0,
    ) -> pd.DataFrame:
        r"""Tell queries that the library answers from those that are as good as noise.

        Also noise has a nearest molecule. So each query is compared with itself after
        its genes were permuted: up and down genes with random lists of the same size.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles, as of :meth:`query`.
        groups : array-like of shape (n_profiles,), default=None
            As in :meth:`kneighbors`; profiles of one condition are permuted alike.
        reverse : bool, default=False
            As in :meth:`kneighbors`.
        n_permutations : int, default=999
            Permutations of the genes, the same for every query. No p-value is below
            1 / (n_permutations + 1).
        level : float, default=0.05
            The false discovery rate at which queries are better than noise.
        random_state : int, RandomState instance or None, default=0
            Draws the permutations.

        Returns
        -------
        table : DataFrame of shape (n_queries, 3)
            One row a query, by its name. ``p_value``: the share of permutations,
            the query itself among them, whose answers are as good. ``q_value``: the
            smallest false discovery rate, over the queries of this call, at which it
            would be called better than noise. ``better_than_noise``: whether that is
            at most `level`.

        Raises
        ------
        ValueError
            As :meth:`kneighbors`.

        See Also
        --------
        MoleculeIndex.query : Shows these numbers beside each answer.

        Notes
        -----
        How good the answers are is the mean of the best 1 % (at least one) of the
        scores with the library, or with 2,048 molecules of a larger one, always the
        same ones; of each molecule the scores with the query and its permutations are
        brought to mean 0 and variance 1 before. With B permutations the p-value is

        .. math:: p = \frac{1 + \#\{b : t_b \ge t\}}{B + 1},

        which is exact where genes are exchangeable, as they are in noise (Phipson &
        Smyth 2010). q-values are those of Benjamini & Hochberg (1995).

        The scores are those that :meth:`query` orders its answers by: where the
        estimator scores candidates again, its own, and not of the candidates but of
        the same sample of the library for the query and its permutations.

        Genes of real profiles are correlated, and a permutation takes that away, too: a
        plate's artefact that many profiles share may be better than this noise. That a
        query is better than noise does not say that its first answer is right.

        The genes must be of one scale, as z-scores are: permuted log intensities are
        no noise that a measurement could give.
        """
        _check_flags(reverse=reverse)
        _check_level(level)
        searcher = self._searcher
        queries, least = searcher.ask(y, groups, reverse)
        permuted = searcher.permuted(queries, n_permutations, random_state)
        searcher.check_not_empty()
        no_answers = np.empty((len(queries), 0), dtype=np.intp)
        null = searcher.null(permuted, no_answers, level=level, reverse=least)
        index = np.arange(len(queries)) if queries.names is None else queries.names
        return null.table.set_index(pd.Index(index, name="query"))

    def query(
        self,
        y,
        n_neighbors=10,
        *,
        groups=None,
        reverse=False,
        among=None,
        pictures=False,
        n_permutations=999,
        level=0.05,
        random_state=0,
    ) -> QueryAnswer:
        """Answer profiles with a table of molecules.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles; the index of a DataFrame names the queries, each by its own name.
        n_neighbors : int, default=10
            Molecules for each query.
        groups : array-like of shape (n_profiles,), default=None
            As in :meth:`kneighbors`; the conditions name the queries.
        reverse : bool, default=False
            As in :meth:`kneighbors`.
        among : array-like of int, default=None
            Rows of the index, see :meth:`get_molecules`, that may be answers, such as
            those of one vendor; None are all. Whether the query is better than noise is
            of the whole library all the same.
        pictures : bool, default=False
            Add the structures, as SVG text.
        n_permutations, level, random_state
            As of :meth:`significance`. 0 permutations leave its columns out, which
            saves some 0.1 s a query, and more where the estimator scores candidates.

        Returns
        -------
        table : QueryAnswer of n_queries * n_neighbors rows
            A DataFrame that notebooks show with structures; ``to_html("answer.html")``
            writes a page of it, ``to_sdf`` the molecules. Its columns: ``query``,
            ``rank`` (from 1), ``molecule`` (SMILES), ``name``, ``drug`` (see
            :func:`~sklearn_molge.molecules.drug_ids`), ``score`` (similarity by the
            metric, or the estimator's own where it scores candidates; then
            ``candidate_score`` is that in the joint space, by which they were found;
            with `reverse` both are those to ``-y``; all other numbers belong to
            ``score``); ``p_value``, the share of the query's permutations that score as
            high (with `reverse` in the joint space as low) with this molecule: it does
            not know that the molecule was chosen as the best of many;
            ``query_p_value``, ``query_q_value`` and ``better_than_noise`` of the whole
            query, see :meth:`significance`; after :meth:`calibrate` also ``percentile``
            (in percent: the background's queries that score lower with this molecule,
            so that with `reverse` in the joint space the best answers have low ones),
            and ``nearest_training`` (SMILES), ``nearest_similarity`` (Tanimoto, Morgan)
            and ``in_training``; of a
            :class:`~sklearn_molge.retrieval.ConformalRetriever` whether the answer is
            ``in_set``, its ``conformal_p`` and ``set_size``, how many molecules of the
            library are in it (see Notes); ``library`` and ``library_row``, the row of
            the library that was given (its first row with this molecule; ``skipped_``
            has the others; with several libraries, of the one of this number, from 0);
            ``index_row``, see :meth:`get_molecules`; with `pictures` ``structure``; and
            the further columns of the library, missing where another library than a
            molecule's has them ("_library" is put behind a name that is taken).

        Raises
        ------
        ValueError
            As :meth:`kneighbors`; if two queries have one name.

        See Also
        --------
        QueryAnswer : The table.
        MoleculeQueryDisplay : The answer as pictures.
        """
        _check_flags(reverse=reverse, pictures=pictures)
        _check_level(level)
        searcher = self._searcher
        queries, least = searcher.ask(y, groups, reverse)
        _check_names(queries.names)
        background = searcher.known(self.background_, queries)
        permuted = searcher.permuted(queries, n_permutations, random_state)
        scores, rows, found = searcher.top_k(queries, n_neighbors, least, among)
        null = percentiles = None
        if n_permutations:
            null = searcher.null(permuted, rows, level=level, reverse=least)
        if background is not None:
            percentiles = background.percentiles(searcher.compare, scores, rows)
        is_list = hasattr(y, "gene_name_choices")  # which is no measured profile
        sets = {}
        if not (reverse or is_list):
            sets = searcher.conformal_sets(queries, scores)
        table = answer_table(
            self.store_,
            scores,
            rows,
            candidate_scores=found,
            labels=queries.names,
            background=self.background_,
            percentiles=percentiles,
            null=null,
            sets=sets,
            reverse=reverse,
            is_own_score=self.reverses_by_sign_,
            ids_are_drugs=self._unique_by == "drug",
            pictures=pictures,
        )
        table.attrs["model"] = _name_of(self.estimator_)
        if n_permutations:
            table.attrs |= {"n_permutations": int(n_permutations), "level": level}
        if sets:
            table.attrs["coverage"] = searcher.calibrated.coverage
        if is_list:
            table.attrs["account"] = [f"{y}."]
        return table

    def similarity_to_rows(
        self, y: ArrayLike, rows: ArrayLike, *, groups: ArrayLike | None = None
    ) -> NDArray[np.floating]:
        """Similarity of every query to some rows of the index.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.
        rows : array-like of int of shape (n_rows,)
            Rows of the index.
        groups : array-like of shape (n_profiles,), default=None
            As in :meth:`kneighbors`.

        Returns
        -------
        similarity : ndarray of shape (n_queries, n_rows)
            Larger means closer; as the ``score`` of :meth:`query`.

        Raises
        ------
        IndexError
            If a row is not in the index.
        """
        searcher = self._searcher
        queries, _ = searcher.ask(y, groups)
        return searcher.score(queries, searcher.check_rows(rows))

    def get_molecules(self, rows: ArrayLike | None = None) -> pd.DataFrame:
        """Look up rows of the index.

        Parameters
        ----------
        rows : array-like of int of any shape, default=None
            Rows, such as :meth:`kneighbors` returns; None is all that can be found.

        Returns
        -------
        molecules : DataFrame
            ``smiles``, ``name`` and, with ``unique_by="drug"``, ``drug``; ``library``
            and ``library_row``, as of :meth:`query`; one row an entry of `rows`, which
            is its index, ``index_row``. Then the further columns of the library.

        Raises
        ------
        IndexError
            If a row is not in the index.
        """
        searcher, store = self._searcher, self.store_
        if rows is None:
            every = np.arange(store.n_rows)
            rows = every if store.active is None else every[store.active]
        ids_are_drugs = self._unique_by == "drug"
        return molecule_table(store, searcher.check_rows(rows), ids_are_drugs)

    # How

    @property
    def _searcher(self) -> Searcher:
        """What answers, with the parameters as they are now."""
        check_is_fitted(self)
        return Searcher(
            self.store_,
            self._own,
            self.reranks_,
            self.reverses_by_sign_,
            self.n_candidates,
            self._search,
        )

    def _given(self) -> Cascade:
        return Cascade(self.estimator, self.candidates_by)

    @property
    def _own(self) -> Cascade:
        return Cascade(self.estimator_, self.candidates_by_)

    def _settings(self):
        """Return what a store is made with."""
        given = self._given()
        return {
            "dtype": self.dtype,
            "metric": choose_metric(given.embedder, self.metric),
            "identity": describe_index(given, self.unique_by, self.genes),
        }

    def _check_parameters(self):
        """Refuse to go on with other parameters than those of `fit`."""
        check_settings(self.store_, **self._settings())
        ours = None if self.folder is None else Path(self.folder).absolute()
        if ours != self.store_.folder:
            raise ValueError(
                f"folder must be {self.store_.folder}, in which this index lies. Got "
                f"{self.folder!r}; to make another one call fit."
            )
        check_unchanged(self._own, self.store_.identity)

    @property
    def _unique_by(self):
        """What `unique_by` was when the index was made."""
        return self.store_.identity["unique_by"]

    def _adopt(self, store, own):
        self.store_ = store
        self.estimator_, self.candidates_by_ = own.estimator, own.candidates_by
        self.reranks_, self.reverses_by_sign_ = own.reranks, own.reverses_by_sign
        self.metric_ = store.metric
        in_folder = store.folder is not None
        self.background_ = Background.load(store) if in_folder else None
        self._faiss = None

    def _add(self, source: Source) -> None:
        """Embed a library, or what is left of it."""
        add_library(
            self.store_,
            self._own.embedder,
            source,
            unique_by=self._unique_by,
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
            on_bad_smiles=self.on_bad_smiles,
            progress=self.progress,
        )

    def _search(self, queries, n_neighbors, *, reverse):
        if self.backend == "exact":
            return top_k(self.store_, queries, n_neighbors, reverse=reverse)
        made_with = (self.store_, self.faiss_factory, self.faiss_parameters)
        if self._faiss is None or self._faiss.made_with != made_with:
            self._faiss = FaissSearcher(
                self.store_,
                factory=self.faiss_factory,
                parameters=self.faiss_parameters,
            )
        return self._faiss.top_k(queries, n_neighbors, reverse=reverse)


class _Told:
    """Shows as a text without quotes."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _name_of(estimator) -> str:
    """Say what an estimator is: the names of its steps, of a wrapper what is in it."""
    steps = [step for _, step in getattr(estimator, "steps", [])]
    if steps:
        return ", ".join(map(_name_of, steps))
    inner = getattr(estimator, "retriever_", None)
    return type(estimator).__name__ if inner is None else _name_of(inner)


def _check_flags(**flags) -> None:
    """Refuse what is no bool: the text "no" is true."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False. Got {value!r}.")


def _check_names(names) -> None:
    """Refuse queries whose answers could not be told apart."""
    if names is None or (known := pd.Index(names)).is_unique:
        return
    again = known[known.duplicated()].unique()
    raise ValueError(
        "y must have a name of its own for each query in its index. More than once: "
        f"{first_few(again, n=5)}. groups=y.index asks profiles of one name together; "
        "y.reset_index(drop=True) numbers them."
    )


def _check_level(level) -> None:
    if not (isinstance(level, Real) and 0 <= float(level) <= 1):
        raise ValueError(f"level must be a number from 0 to 1. Got {level!r}.")
