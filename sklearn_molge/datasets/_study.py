"""A study: molecules paired, row by row, with the profiles that they induce."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_molge.datasets._join import join_studies
from sklearn_molge.datasets._study_files import StudyFilesMixin
from sklearn_molge.datasets._study_levels import StudyLevelsMixin
from sklearn_molge.expression import match_controls
from sklearn_molge.molecules import drug_ids

__all__ = ["Study"]


@dataclass(eq=False, repr=False)
class Study(StudyFilesMixin, StudyLevelsMixin):
    """Molecules, the profiles that they induce, and the controls of their plates.

    It holds plain arrays and data frames, one row a profile, and knows no estimator.

    Parameters
    ----------
    smiles : array-like of shape (n,)
        The molecule of each profile, as SMILES.
    ge : array-like of shape (n, n_genes)
        Profiles: log2 intensity at Level 3, z-score at Levels 4 and 5.
    obs : DataFrame of n rows
        What is known of each profile. Only ``cell_line`` is required; see Notes for
        the names and units in use. A missing ``drug`` column is computed by
        :func:`~sklearn_molge.molecules.drug_ids`.
    genes : DataFrame of n_genes rows
        ``gene_id`` (Entrez, int), ``symbol``, ``is_landmark``, as far as known.
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
    ========== ======================================================================

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
        self.groups = self.obs[["drug", "cell_line"]].to_numpy(dtype=object)

    def _check_profiles(self, name: str, values: ArrayLike) -> NDArray[np.float32]:
        array = np.asarray(values, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != len(self.genes):
            raise ValueError(
                f"{name} must be of shape (n, {len(self.genes)}), one column for each "
                f"row of genes. Got an array of shape {array.shape}."
            )
        return array

    def __len__(self) -> int:
        return len(self.smiles)

    def __repr__(self) -> str:
        drugs, lines = (len(pd.unique(column)) for column in self.groups.T)
        level = "" if self.level is None else f" (level {self.level})"
        n_controls = 0 if self.control_ge is None else len(self.control_ge)
        return (
            f"Study: {len(self):,} profiles{level} of {drugs:,} drugs in {lines:,} "
            f"cell lines, {len(self.genes):,} genes, {n_controls:,} controls"
        )

    def __getitem__(self, rows: Any) -> Study:
        return self.take(rows)

    def take(self, rows: Any) -> Study:
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

    def paired_ge(
        self,
        how: str = "mean",
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[np.float32]:
        """Put a control of the same plate beside each profile.

        Parameters
        ----------
        how : {"mean", "median", "random"}, default="mean"
            The gene-wise mean or median of the plate's control wells, or one of these
            wells drawn at random (the paper's way, which draws anew at each access).
        random_state : int, RandomState or None, default=None
            Seed of "random".

        Returns
        -------
        paired : ndarray of shape (n, 2 * n_genes), dtype=float32
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
        return np.hstack([self.ge, control], dtype=np.float32, casting="same_kind")

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
        """
        return cls(**join_studies(list(studies)))


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
