"""A study to and from files and AnnData objects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import pandas as pd

from sklearn_molge.datasets._anndata import anndata_to_parts, study_to_anndata
from sklearn_molge.datasets._stored import read_study_parts, write_study

if TYPE_CHECKING:
    from anndata import AnnData

    from sklearn_molge.datasets._study import Study

__all__ = ["StudyFilesMixin"]


class StudyFilesMixin:
    """What :class:`Study` can be written to and made of."""

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
        write_study(cast("Study", self), path)

    @classmethod
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

        See Also
        --------
        from_anndata : For files that other programs wrote.

        Notes
        -----
        With "r", joblib's worker processes on the same machine share the mapped
        pages: they open the file again by its name, so leave it in place, unchanged,
        while they work. Replacing it (also by :meth:`save`) does not change studies
        that are open in this process.

        The values of the matrix are not checked against damage; the tables are read.
        """
        return _make(cls, read_study_parts(path, mmap_mode=mmap_mode))

    @classmethod
    def from_anndata(
        cls,
        adata: AnnData,
        *,
        columns: Mapping[str, str] | None = None,
        genes: pd.DataFrame | None = None,
        level: int | None = None,
        control_types: str | Sequence[str] = ("ctl_vehicle", "ctl_untrt"),
        on_bad_smiles: str = "drop",
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
        columns : mapping, default=None
            Our name of a column (or ``smiles``) to its name in ``adata.obs``, for what
            is named otherwise; not ``drug``, which is computed.
        genes : DataFrame, default=None
            The genes wanted, in this order, with ``gene_id`` and ``symbol``, such as
            ``genes`` of another study. None keeps those of `adata`, without
            ``gene_id`` where only symbols are known; without ``is_landmark`` where it
            is not known of all.
        level : int, default=None
            Level of the LINCS data; None takes the one that :meth:`to_anndata` noted.
        control_types : str or list of str, default=("ctl_vehicle", "ctl_untrt")
            Values of ``pert_type`` that are controls; other kinds (``ctl_*``) are left
            out.
        on_bad_smiles : {"drop", "raise"}, default="drop"
            As in :func:`load_lincs`.

        Returns
        -------
        study : Study
            Its matrices share memory with ``adata.X`` where that is a float32 array
            in the order of :meth:`to_anndata`.

        Raises
        ------
        ValueError
            If a column is missing, or no treated profile is left.
        InvalidSmilesError
            If a SMILES is bad and ``on_bad_smiles="raise"``.

        Warns
        -----
        UserWarning
            If profiles have no readable SMILES, or `genes` has more than `adata`.
        """
        return _make(
            cls,
            anndata_to_parts(
                adata,
                columns=columns,
                genes=genes,
                level=level,
                control_types=control_types,
                on_bad_smiles=on_bad_smiles,
            ),
        )

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
        return study_to_anndata(cast("Study", self))


def _make(cls: Any, parts: dict[str, Any]) -> Any:
    return cls(**parts)
