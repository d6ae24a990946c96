"""A study: molecules paired, row by row, with the profiles that they induce."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Literal, Self, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._utils.genes import gene_names
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.notebook import facts_html
from sklearn_molge._utils.typing import RandomState
from sklearn_molge.datasets._columns import check_each_once
from sklearn_molge.datasets._join import joined_parts
from sklearn_molge.datasets._texts import as_frame, plain_labels
from sklearn_molge.expression import match_controls
from sklearn_molge.molecules import drug_ids

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Study"]

# Structures in a notebook.
_N_PICTURES = 4


@dataclass(eq=False, repr=False)
class Study:
    """Molecules, the profiles that they induce, and the controls of their plates.

    It holds plain arrays and data frames, one row a profile, and knows no estimator.

    Parameters
    ----------
    smiles : array-like of shape (n,)
        The molecule of each profile, as SMILES.
    ge : array-like of shape (n, n_genes)
        Profiles: log2 intensity at Level 3, z-score at Levels 4 and 5. NaN where a
        gene was not measured, which estimators refuse; see
        :class:`~sklearn_molge.expression.GeneImputer`.
    obs : DataFrame of n rows
        What is known of each profile. Only ``cell_line`` is required; see Notes for
        the names and units in use. A missing ``drug`` column is computed by
        :func:`~sklearn_molge.molecules.drug_ids`.
    genes : DataFrame of n_genes rows
        ``gene_id`` (Entrez, int), ``symbol``, ``is_landmark``, as far as known. Tables
        of polars or pyarrow become those of pandas.
    control_ge : array-like of shape (n_controls, n_genes), default=None
        Profiles of the control wells.
    control_obs : DataFrame of n_controls rows, default=None
        As `obs`; ``plate`` is required. Given together with `control_ge`.
    level : int, default=None
        Level of the LINCS data (3, 4 or 5); None for data of another kind.
    dropped : DataFrame, default=None
        What a loader left out: ``step``, ``n_dropped``, ``n_left``, ``detail``.

    Attributes
    ----------
    smiles : ndarray of shape (n,), dtype=object
    ge : ndarray of shape (n, n_genes), dtype=float32
    groups : ndarray of shape (n, 2), dtype=object
        Drug and cell line of each profile: what splits and scores go by.
    obs, genes, control_obs, dropped : DataFrame
    control_ge : ndarray of shape (n_controls, n_genes), dtype=float32, or None
    level : int or None

    Raises
    ------
    ValueError
        If lengths disagree, a required column is missing, or only one of
        `control_ge` and `control_obs` is given.
    InvalidSmilesError
        If `obs` has no ``drug`` and an entry of `smiles` is not a molecule.

    Warns
    -----
    DataWarning
        If drugs or cell lines differ in type or in blanks only (5 and "5", "A" and
        "A "): they are one.

    Notes
    -----
    Columns of `obs` and `control_obs`, indexed by the profile's id:

    ========== ======================================================================
    pert_id    perturbagen (BRD-...)
    pert_name  its name
    drug       identity of the molecule, see :func:`~sklearn_molge.molecules.drug_ids`
    cell_line  cell line
    plate      detection plate, or RNA plate where that is what is known
    well       well on that plate (A01 to P24)
    dose_um    dose in um (micromol/l), NaN where unknown
    time_h     time of exposure in h
    pert_type  LINCS code: trt_cp, ctl_vehicle, ctl_untrt, ...
    moa        mechanisms of action, joined by "|"
    target     gene symbols of the targets, joined by "|"
    source     where the profile comes from, see :func:`join_studies`
    ========== ======================================================================

    A profile that combines several cell lines has a ``cell_line`` of its own, such as
    "consensus", and the lines in ``covered_lines``, joined by "|", or "*" where they
    are not known: so that an audit sees a held-out line in it.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.datasets import Study
    >>> study = Study(
    ...     ["CCO", "OCC", "CCN"],
    ...     ge=[[5.0, 7.0], [5.5, 7.5], [6.0, 8.0]],
    ...     obs=pd.DataFrame({"cell_line": ["A375", "PC3", "PC3"], "plate": "P1"}),
    ...     genes=pd.DataFrame({"gene_id": [16, 23]}),
    ...     control_ge=[[4.0, 6.0], [5.0, 6.0]],
    ...     control_obs=pd.DataFrame({"plate": ["P1", "P1"]}),
    ...     level=3,
    ... )
    >>> study
    Study: 3 profiles (level 3) of 2 drugs in 2 cell lines, 2 genes, 2 controls
    >>> study[study.obs["cell_line"] == "PC3"].paired_ge()
    array([[5.5, 7.5, 4.5, 6. ],
           [6. , 8. , 4.5, 6. ]], dtype=float32)
    """

    smiles: NDArray[np.object_]
    _: KW_ONLY
    ge: NDArray[np.float32]
    obs: pd.DataFrame
    genes: pd.DataFrame
    control_ge: NDArray[np.float32] | None = None
    control_obs: pd.DataFrame | None = None
    level: int | None = None
    dropped: pd.DataFrame | None = None
    groups: NDArray[np.object_] = field(init=False)

    def __post_init__(self) -> None:
        self.smiles = np.asarray(self.smiles, dtype=object)
        if self.smiles.ndim != 1:
            raise ValueError(
                f"smiles must be 1-D. Got an array of shape {self.smiles.shape}."
            )
        for name in ("obs", "genes", "control_obs"):
            if getattr(self, name) is not None:
                setattr(self, name, as_frame(getattr(self, name), name))
        self.ge = self._check_profiles("ge", self.ge)
        _check_length("obs", self.obs, "profiles (entries of smiles)", len(self))
        _check_length("obs", self.obs, "rows of ge", len(self.ge))
        _check_columns("obs", self.obs, ["cell_line"])
        if (self.control_ge is None) != (self.control_obs is None):
            missing = "control_ge" if self.control_ge is None else "control_obs"
            raise ValueError(
                "control_ge and control_obs must be given together. "
                f"Got {missing}=None."
            )
        if self.control_ge is not None and self.control_obs is not None:
            self.control_ge = self._check_profiles("control_ge", self.control_ge)
            _check_length(
                "control_obs",
                self.control_obs,
                "rows of control_ge",
                len(self.control_ge),
            )
            _check_columns("control_obs", self.control_obs, ["plate"])
        if "drug" not in self.obs:
            self.obs = self.obs.assign(drug=drug_ids(self.smiles))
        for name in ("obs", "genes", "control_obs", "dropped"):
            table = getattr(self, name)
            if table is not None:  # a new column of one study is none of another's
                setattr(self, name, table.copy(deep=False))
        self.obs = plain_labels(self.obs, ["drug", "cell_line"], stacklevel=3)
        self.groups = self.obs[["drug", "cell_line"]].to_numpy(dtype=object)

    def _check_profiles(self, name: str, values: ArrayLike) -> NDArray[np.float32]:
        self._check_order(name, gene_names(values))
        array = np.asarray(values, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != len(self.genes):
            raise ValueError(
                f"{name} must be of shape (n, {len(self.genes)}), one column for each "
                f"row of genes. Got an array of shape {array.shape}."
            )
        return array

    def _check_order(self, name: str, columns: NDArray[np.object_] | None) -> None:
        """Refuse a data frame whose columns are the genes in another order."""
        if columns is None:
            return
        for key in ("gene_id", "symbol"):
            own = [] if key not in self.genes else self.genes[key].astype(str).tolist()
            if set(own) == set(columns) and own != columns.tolist():
                raise ValueError(
                    f"{name} must have its columns in the order of genes. Got the same "
                    f"{key} in another order: align_profiles({name}, genes) helps."
                )

    def __len__(self) -> int:
        return len(self.smiles)

    def __repr__(self) -> str:
        drugs, lines = (len(pd.unique(column)) for column in self.groups.T)
        level = "" if self.level is None else f" (level {self.level})"
        n_controls = 0 if self.control_ge is None else len(self.control_ge)
        return (
            f"Study: {counted(len(self), 'profile')}{level} of "
            f"{counted(drugs, 'drug')} in {counted(lines, 'cell line')}, "
            f"{counted(len(self.genes), 'gene')}, {counted(n_controls, 'control')}"
        )

    def _repr_html_(self) -> str:
        title, _, parts = repr(self).partition(": ")
        sizes = pd.Series(self.groups[:, 1]).value_counts()
        facts = {
            "holds": parts,
            "cell lines": first_few(
                sizes.items(), write=lambda line: f"{line[0]} ({line[1]:,})", n=8
            ),
            "known of each": ", ".join(map(str, self.obs.columns)),
        }
        tables = {"First profiles": self.obs.head(), "First genes": self.genes.head()}
        if self.dropped is not None:
            tables["Left out"] = self.dropped
        first = pd.Series(self.groups[:, 0]).drop_duplicates().index[:_N_PICTURES]
        captions = self.obs["pert_name" if "pert_name" in self.obs else "drug"]
        molecules = zip(self.smiles[first], captions.iloc[first].map(str), strict=True)
        return facts_html(title, facts, tables=tables, molecules=molecules)

    def __getitem__(self, rows) -> Study:
        return self.take(rows)

    def take(self, rows) -> Study:
        """Keep some profiles.

        Parameters
        ----------
        rows : array of int, array of bool, slice or int
            Positions to keep, or a mask over the profiles.

        Returns
        -------
        study : Study
            With the controls of the plates that are left, so that a part of a study
            knows nothing of the others' controls; ``genes`` and ``dropped`` are kept.

        Raises
        ------
        IndexError
            If a position lies outside the study, or a mask has another length.
        """
        positions = np.atleast_1d(np.arange(len(self))[rows])
        obs = self.obs.iloc[positions]
        control_ge, control_obs = self.control_ge, self.control_obs
        if control_ge is not None and control_obs is not None and "plate" in obs:
            keep = control_obs["plate"].isin(obs["plate"].dropna()).to_numpy()
            control_ge, control_obs = control_ge[keep], control_obs[keep]
        return Study(
            self.smiles[positions],
            ge=self.ge[positions],
            obs=obs,
            genes=self.genes,
            control_ge=control_ge,
            control_obs=control_obs,
            level=self.level,
            dropped=self.dropped,
        )

    @validate_params(
        {"names": [StrOptions({"gene_id", "symbol"})]},
        prefer_skip_nested_validation=True,
    )
    def profiles(self, *, names: str = "gene_id") -> pd.DataFrame:
        """Return the profiles with the names of their genes.

        An estimator that is fitted on them knows its genes (``gene_names_in_``), and
        refuses profiles of others, or in another order.

        Parameters
        ----------
        names : {"gene_id", "symbol"}, default="gene_id"
            Names of the columns: Entrez ids as text, or symbols. A study without
            ``gene_id`` takes symbols.

        Returns
        -------
        profiles : DataFrame of shape (n, n_genes)
            `ge`, without a copy; the index is that of `obs`.

        Raises
        ------
        ValueError
            If genes have no such names, or two have one.

        See Also
        --------
        sklearn_molge.expression.align_profiles : Profiles of elsewhere in this order.

        Examples
        --------
        >>> from sklearn_molge.alignment import CCA
        >>> from sklearn_molge.datasets import make_perturbation_study
        >>> from sklearn_molge.molecules import MorganFingerprinter
        >>> from sklearn.pipeline import make_pipeline
        >>> study = make_perturbation_study(20, n_genes=30, level=5, random_state=0)
        >>> pipe = make_pipeline(MorganFingerprinter(), CCA(5, ridge=1.0))
        >>> pipe = pipe.fit(study.smiles, study.profiles())
        >>> len(pipe[-1].gene_names_in_)
        30
        """
        columns = self._gene_columns(names)
        return pd.DataFrame(self.ge, index=self.obs.index, columns=columns, copy=False)

    def _gene_columns(self, names: str = "gene_id") -> pd.Index:
        """Names of genes as text, each of one gene."""
        key = names if names in self.genes else "symbol"
        if key not in self.genes:
            raise ValueError(
                f"genes must have a column {names!r} to name profiles by. "
                f"Got {', '.join(map(str, self.genes)) or 'no column'}."
            )
        values = self.genes[key]
        if key == "gene_id" and values.notna().all():
            values = values.astype(np.int64)
        columns = pd.Index(values.astype(str), dtype=object, name=None)
        check_each_once(columns, f"profiles() needs genes of different {key}")
        return columns

    @overload
    def paired_ge(
        self,
        how: str = ...,
        random_state: RandomState = ...,
        *,
        as_frame: Literal[False] = ...,
    ) -> NDArray[np.float32]: ...

    @overload
    def paired_ge(
        self,
        how: str = ...,
        random_state: RandomState = ...,
        *,
        as_frame: Literal[True],
    ) -> pd.DataFrame: ...

    def paired_ge(
        self,
        how: str = "mean",
        random_state: RandomState = None,
        *,
        as_frame: bool = False,
    ) -> NDArray[np.float32] | pd.DataFrame:
        """Put a control of the same plate beside each profile.

        Parameters
        ----------
        how : {"mean", "median", "random"}, default="mean"
            The gene-wise mean or median of the plate's control wells, or one of these
            wells drawn at random (the paper's way, which draws anew at each access).
        random_state : int, RandomState or None, default=None
            Seed of "random".
        as_frame : bool, default=False
            Whether to name the columns "treated_16", ... and "control_16", ..., as
            :meth:`profiles` names genes: then nobody takes them for unpaired ones.

        Returns
        -------
        paired : ndarray or DataFrame of shape (n, 2 * n_genes), dtype=float32
            ``[treated | control]``, what
            :class:`~sklearn_molge.expression.L1000Featurizer` takes.

        Raises
        ------
        ValueError
            If the study has no controls, or does not know the plate of each profile.
        MissingControlError
            With the plates that have no control.

        See Also
        --------
        sklearn_molge.expression.match_controls : The same on arrays.
        """
        if self.control_ge is None or self.control_obs is None:
            why = ""
            if self.level == 5:
                why = " Level 5 is already relative to its plate: use `ge`."
            raise ValueError(f"paired_ge needs controls, and the study has none.{why}")
        _check_columns("obs", self.obs, ["plate"])
        control = match_controls(
            self.obs["plate"].to_numpy(dtype=object),
            self.control_ge,
            self.control_obs["plate"].to_numpy(dtype=object),
            how=how,
            random_state=random_state,
        )
        paired = np.hstack([self.ge, control], dtype=np.float32, casting="same_kind")
        if not as_frame:
            return paired
        genes = self._gene_columns()
        columns = ("treated_" + genes).append("control_" + genes)
        return pd.DataFrame(paired, index=self.obs.index, columns=columns)

    @validate_params(
        {
            "against": [StrOptions({"plate", "controls"})],
            "min_mad": [Interval(Real, 0, None, closed="neither")],
            "clip": [Interval(Real, 0, None, closed="neither"), None],
        },
        prefer_skip_nested_validation=True,
    )
    def to_level4(
        self,
        *,
        against: str = "plate",
        min_mad: float = 0.1,
        clip: float | None = None,
    ) -> Self:
        """Score the wells of a Level 3 study against their plates: Level 4.

        Parameters
        ----------
        against : {"plate", "controls"}, default="plate"
            Reference wells: all wells of the plate that the study has, or its control
            wells alone.
        min_mad : float, default=0.1
            Smallest median absolute deviation to divide by, in log2 intensity.
        clip : float, default=None
            Largest absolute z-score.

        Returns
        -------
        study : Study
            Of level 4: treated wells and controls, both as z-scores.

        Raises
        ------
        ValueError
            If the study is not of level 3, a plate is unknown or has fewer than two
            reference wells, or "controls" are wanted and there are none.

        See Also
        --------
        consensus : From there to Level 5.
        sklearn_molge.expression.robust_zscore : The equation, its source, and how
            near it comes to shipped files.

        Notes
        -----
        The plate is what the study has of it. Go to Level 4 before you take a part of
        the study. Wells that a loader left out (positive controls, compounds
        without a structure) are missing in the reference too.

        Examples
        --------
        >>> from sklearn_molge.datasets import make_perturbation_study
        >>> wells = make_perturbation_study(5, n_genes=20, level=3, random_state=0)
        >>> wells.to_level4().level
        4
        """
        from sklearn_molge.datasets._replicates import level4_parts

        parts = level4_parts(self, against=against, min_mad=min_mad, clip=clip)
        return type(self)(**parts)

    @validate_params(
        {
            "by": [str, "array-like", None],
            "min_replicates": [Interval(Integral, 1, None, closed="left")],
        },
        prefer_skip_nested_validation=False,  # consensus_signatures checks the rest
    )
    def consensus(
        self,
        by: str | Sequence[str] | None = None,
        *,
        how: str = "modz",
        min_replicates: int = 1,
        clip: float | None = 10.0,
        min_weight: float = 0.01,
    ) -> Self:
        """Combine the replicates of each condition into one signature: Level 5.

        Parameters
        ----------
        by : str or list of str, default=None
            Columns of `obs` that replicates have in common, compared exactly; a
            missing value is equal to a missing value. None: ``drug``, ``cell_line``,
            and ``dose_um`` and ``time_h`` where `obs` has them.
        how : {"modz", "mean", "median"}, default="modz"
            How to combine the profiles; "modz" gives a replicate that disagrees with
            the others less weight.
        min_replicates : int, default=1
            Conditions with fewer profiles are left out.
        clip : float, default=10.0
            Largest absolute z-score that goes in; None: no limit.
        min_weight : float, default=0.01
            Smallest weight before normalisation, of "modz".

        Returns
        -------
        study : Study
            One row a condition, as they first appear, without controls; of level 5
            (None where the level was None). ``genes["is_landmark"]`` says which genes
            replicates are compared over, all where it is missing. Columns of `obs`
            that differ within a condition hold all their texts, joined by "|", or
            are missing where they are no text. New columns: ``replicates`` (ids
            of the profiles) and ``weights``, joined by "|"; ``n_replicates``,
            ``cc_q75``, ``ss_ngene``, ``tas``. The molecule is the first profile's.
            ``dropped`` goes on with what was left out and combined.

        Raises
        ------
        ValueError
            If the study is of level 3, a column is missing, no condition has enough
            replicates, or ``is_landmark`` is missing for a gene.

        See Also
        --------
        to_level4 : From Level 3 to z-scores.
        sklearn_molge.expression.consensus_signatures : The equations, their source,
            and the meaning of the columns.

        Examples
        --------
        >>> from sklearn_molge.datasets import make_perturbation_study
        >>> wells = make_perturbation_study(
        ...     5, n_cell_lines=2, n_genes=20, n_replicates=3, level=3, random_state=0
        ... )
        >>> signatures = wells.to_level4().consensus(min_replicates=2)
        >>> len(wells), len(signatures), signatures.level
        (60, 20, 5)
        >>> signatures.obs["n_replicates"].unique()
        array([3])
        """
        from sklearn_molge.datasets._replicates import consensus_parts

        parts = consensus_parts(
            self,
            by=by,
            how=how,
            min_replicates=min_replicates,
            clip=clip,
            min_weight=min_weight,
        )
        return type(self)(**parts)

    @classmethod
    def concat(cls, studies: Iterable[Study]) -> Study:
        """Join studies of one level, such as plates from files of several kinds.

        Parameters
        ----------
        studies : iterable of Study
            Their genes are matched by ``gene_id``, by ``symbol`` where one lacks that.

        Returns
        -------
        study : Study
            Profiles and controls in the order given, genes as in the first study;
            `dropped` is None.

        Raises
        ------
        ValueError
            If levels differ, genes have no names or the same, no gene is in every
            study, or there is no study.

        Warns
        -----
        UserWarning
            If genes are not in every study, and left out.

        See Also
        --------
        sklearn_molge.datasets.join_studies : Several sources, told apart afterwards.
        """
        studies = list(studies)
        levels = {study.level for study in studies}
        if len(levels) != 1:
            raise ValueError(
                "concat needs one or more studies of one level. "
                f"Got {len(studies)} studies of levels {sorted(levels, key=str)}."
            )
        return cls(**joined_parts(studies, genes="common", caller="concat")[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the study in one file, which AnnData reads as well.

        The file gets its name when it is complete: an interrupted call leaves an
        earlier file of this name as it was.

        Parameters
        ----------
        path : path-like
            The file, such as ``"study.h5ad"``; an existing one is replaced.

        Raises
        ------
        ImportError
            If anndata is not installed.
        ValueError
            If a column of a table cannot be stored exactly; names it. Text, numbers
            and booleans of one kind can, with missing values, and categoricals.
        FileNotFoundError
            If the folder does not exist.

        See Also
        --------
        load : Open the file.
        to_anndata : The same content as an object.

        Notes
        -----
        The format is ``.h5ad``: HDF5 in AnnData's layout, what
        ``to_anndata().write_h5ad(path)`` writes, too. Profiles are stored in one
        piece and uncompressed (4 bytes a value), in blocks, so that saving needs
        little memory beside the study.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn_molge.datasets import Study, make_perturbation_study
        >>> study = make_perturbation_study(5, n_genes=20, level=3, random_state=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study.save(Path(folder) / "study.h5ad")
        ...     again = Study.load(Path(folder) / "study.h5ad")
        >>> repr(again) == repr(study)
        True
        """
        from sklearn_molge.datasets._anndata import write_study

        write_study(self, path)

    @classmethod
    @validate_params(
        {"path": [str, os.PathLike], "mmap_mode": [StrOptions({"r", "c"}), None]},
        prefer_skip_nested_validation=True,
    )
    def load(cls, path: str | os.PathLike[str], *, mmap_mode: str | None = "r") -> Self:
        """Open a study that :meth:`save` wrote.

        Parameters
        ----------
        path : path-like
            The file. What ``to_anndata().write_h5ad(path)`` wrote is opened, too.
        mmap_mode : {"r", "c"} or None, default="r"
            How ``ge`` and ``control_ge`` are opened, in numpy's words. "r": mapped,
            so that the file is read when and where it is used; writing to them
            raises. "c": mapped, copy on write: changes stay in memory. None: read
            into memory. No mode changes the file.

        Returns
        -------
        study : Study
            Equal to the one saved: values, columns, their types, index, order.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is no study, or cut or damaged, with its path and part; or if
            its matrix is compressed and cannot be mapped.
        ImportError
            If anndata is not installed.

        Warns
        -----
        DataWarning
            If its drugs were named by another version of ``drug_ids``
            (:data:`~sklearn_molge.molecules.IDENTITY_VERSION`).

        See Also
        --------
        from_anndata : For files that other programs wrote.

        Notes
        -----
        With "r", joblib's worker processes on the same machine share the mapped
        pages: they open the file again by its name, so leave it in place, unchanged,
        while they work. Replacing it (also by :meth:`save`) does not change studies
        that are open in this process.

        A file of :meth:`save` has checksums. That of the tables is compared at once,
        that of the matrix where it is read whole, with ``mmap_mode=None``, or has at
        most 16 MiB: a larger one that is mapped is not read, and may be damaged. To
        change the file by other programs, delete the attribute ``sklearn_molge_seal``
        of its root.
        """
        from sklearn_molge.datasets._anndata import read_study_parts

        parts = read_study_parts(path, mmap_mode=mmap_mode)
        with reading(path):
            return cls(**parts)

    @classmethod
    @validate_params(
        {
            "columns": [Mapping, None],
            "genes": [pd.DataFrame, None],
            "level": [Interval(Integral, 3, 5, closed="both"), None],
            "control_types": [str, "array-like"],
            "on_bad_smiles": [StrOptions({"drop", "raise"})],
            "missing": [StrOptions({"raise", "nan"})],
        },
        prefer_skip_nested_validation=True,
    )
    def from_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        columns: Mapping[str, str] | None = None,
        var_columns: Mapping[str, str] | None = None,
        genes: pd.DataFrame | None = None,
        level: int | None = None,
        control_types: str | Sequence[str] = ("ctl_vehicle", "ctl_untrt"),
        on_bad_smiles: str = "drop",
        missing: str = "raise",
    ) -> Self:
        """Make a study of an AnnData object.

        Parameters
        ----------
        adata : AnnData
            ``X``: profiles; ``obs``: columns in the vocabulary of LINCS
            (``canonical_smiles``, ``cell_id``, ``rna_plate``, ``pert_type``, ...) or of
            :class:`Study`; ``var``: ``gene_id`` or ``pr_gene_id``, or named by Entrez
            id or symbol. Other columns are left out. What :meth:`to_anndata` made
            comes back exactly, without columns that were added to it since.
        layer : str, default=None
            The layer with the profiles; None takes ``X``.
        columns : mapping, default=None
            Our name of a column (or ``smiles``) to its name in ``adata.obs``, for what
            is named otherwise; not ``drug``, which is computed.
        var_columns : mapping, default=None
            The same for genes: ``gene_id``, ``symbol`` or ``is_landmark`` to its name
            in ``adata.var``.
        genes : DataFrame, default=None
            The genes wanted, in this order, with ``gene_id`` and ``symbol``, such as
            ``genes`` of another study; matched as by
            :func:`~sklearn_molge.expression.match_genes`. None keeps those of `adata`,
            without ``gene_id`` where only symbols are known; without ``is_landmark``
            where it is not known of all.
        level : int, default=None
            Level of the LINCS data; None takes the one that :meth:`to_anndata` noted.
        control_types : str or list of str, default=("ctl_vehicle", "ctl_untrt")
            Values of ``pert_type`` that are controls; other kinds (``ctl_*``) are left
            out.
        on_bad_smiles : {"drop", "raise"}, default="drop"
            As in :func:`load_lincs`.
        missing : {"raise", "nan"}, default="raise"
            As in :func:`load_lincs`.

        Returns
        -------
        study : Study
            Its matrices share memory with ``adata.X`` where that is a float32 array
            in the order of :meth:`to_anndata`.

        Raises
        ------
        ValueError
            If a column or the layer is missing, no treated profile is left,
            ``adata.X`` is None, or
            values are infinite, or missing with ``missing="raise"``.
        InvalidSmilesError
            If a SMILES is bad and ``on_bad_smiles="raise"``.

        Warns
        -----
        UserWarning
            If profiles have no readable SMILES, or `genes` has more than `adata`.
        DataWarning
            As :func:`load_lincs`. Units of doses and times are read as there, also
            where `columns` names the column: ``dose_unit`` is that of ``dose_value``.
        """
        from sklearn_molge.datasets._anndata import anndata_to_parts

        parts = anndata_to_parts(
            adata,
            layer=layer,
            columns=columns,
            var_columns=var_columns,
            genes=genes,
            level=level,
            control_types=control_types,
            on_bad_smiles=on_bad_smiles,
            missing=missing,
        )
        return cls(**parts)

    def to_anndata(self) -> AnnData:
        """Put the study in one AnnData object.

        Returns
        -------
        adata : AnnData
            Treated profiles, then control wells, told apart by ``obs["is_control"]``;
            ``obs["smiles"]`` is the molecule; texts are categorical; genes are named by
            Entrez id in ``var``; level and `dropped` are in ``uns["sklearn_molge"]``.
            ``X`` is a copy where there are controls, except of a study that
            :meth:`load` opened, whose matrices lie together already.

        Raises
        ------
        ImportError
            If anndata is not installed.
        """
        from sklearn_molge.datasets._anndata import study_to_anndata

        return study_to_anndata(self)


def _check_length(name: str, table: pd.DataFrame, what: str, length: int) -> None:
    if len(table) != length:
        raise ValueError(
            f"{name} must have one row for each of the {length} {what}. "
            f"Got {len(table)} rows."
        )


def _check_columns(name: str, table: pd.DataFrame, columns: Iterable[str]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(
            f"{name} must have a column {', '.join(map(repr, missing))}. "
            f"Got {', '.join(map(str, table.columns)) or 'no column'}."
        )
