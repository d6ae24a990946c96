"""A study's replicates: from wells to z-scores, from z-scores to signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from sklearn_molge.datasets._levels import consensus_parts, level4_parts

if TYPE_CHECKING:
    from sklearn_molge.datasets._study import Study

__all__ = ["StudyLevelsMixin"]


class StudyLevelsMixin:
    """The levels of the LINCS data above those that a study was loaded at."""

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
        parts = level4_parts(
            cast("Study", self), against=against, min_mad=min_mad, clip=clip
        )
        return cast(Any, type(self))(**parts)

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
        parts = consensus_parts(
            cast("Study", self),
            by=by,
            how=how,
            min_replicates=min_replicates,
            clip=clip,
            min_weight=min_weight,
        )
        return cast(Any, type(self))(**parts)
