"""Load a study from files in the layout of the public L1000 releases."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._files.replacing import replacing, reserve
from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import CONTROL_COLUMNS, OBS_COLUMNS
from sklearn_molge.datasets._formats._h5ad import layers_hint
from sklearn_molge.datasets._formats._values import MISSING_OPTIONS, warn_of_scale
from sklearn_molge.datasets._lincs._matrices import (
    Matrix,
    choose_genes,
    find_files,
    find_wells,
    h5ad_files,
    ids_of,
    open_matrices,
    read_profiles,
)
from sklearn_molge.datasets._lincs._profile_ids import decode_ids
from sklearn_molge.datasets._lincs._profiles import profile_table
from sklearn_molge.datasets._selection import (
    as_tuple,
    parse_wanted,
    select_controls,
    select_treated,
)
from sklearn_molge.datasets._study import Study

__all__ = ["load_lincs"]


@validate_params(
    {
        "level": [Interval(Integral, 3, 5, closed="both")],
        "landmark_only": ["boolean"],
        "min_cell_lines": [Interval(Integral, 1, None, closed="left")],
        "shared_by_all_lines": ["boolean"],
        "on_bad_smiles": [StrOptions({"drop", "raise"})],
        "gene_order": [StrOptions({"entrez", "file"})],
        "progress": ["boolean", StrOptions({"auto"})],
        "n_jobs": [Integral, None],
        "mmap_path": [str, PathLike, None],
        "missing": [StrOptions(MISSING_OPTIONS)],
        "layer": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def load_lincs(
    folder: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    level: int,
    pert_time: float | str | Sequence[float | str] | None = None,
    pert_dose: float | str | Sequence[float | str] | None = None,
    cell_lines: str | Sequence[str] | None = None,
    landmark_only: bool = True,
    min_cell_lines: int = 1,
    shared_by_all_lines: bool = False,
    pert_type: str | Sequence[str] = "trt_cp",
    control_types: str | Sequence[str] = ("ctl_vehicle", "ctl_untrt"),
    metadata: str | PathLike[str] | pd.DataFrame | None = None,
    on_bad_smiles: str = "drop",
    gene_order: str = "entrez",
    progress: bool | str = "auto",
    n_jobs: int | None = None,
    mmap_path: str | PathLike[str] | None = None,
    missing: str = "raise",
    layer: str | None = None,
) -> Study:
    """Load a study from a folder in the layout of the public L1000 releases.

    Metadata are read and filtered first, and of the matrices no more than the profiles
    and genes that are left, straight into one array. Tables are gone through in parts,
    so that memory stays near the size of the study, however large the release.

    Parameters
    ----------
    folder : path or list of paths
        A folder with the files of one release or of several: GEO GSE92742 and GSE70138
        (``*_inst_info*``, ``*_sig_info*``, ``*_pert_info*``, ``*_gene_info*`` and
        matrices such as ``*Level3_INF_mlr12k*.gctx``) or LINCS 2020
        (``instinfo_beta.txt``, ``siginfo_beta.txt``, ``compoundinfo_beta.txt``,
        ``geneinfo_beta.txt``, ``level3_beta_trt_cp*.gctx``, ``level3_beta_ctl*.gctx``);
        tables may be gzipped. Or a list of such folders and of single files. GCT, GCTX
        and ``.h5ad`` (AnnData) files with the metadata inside need no tables. Where a
        matrix has none and no table is there by its name, the only other table with
        ids of profiles is taken, and named in ``dropped``. Genes without Entrez ids
        are known by their symbols, from the table of genes or, without one, the human
        genome's.
    level : {3, 4, 5}
        3: normalised log2 intensities of wells; 4: z-scores of wells; 5: z-scores of
        signatures (replicates combined), which have no controls.
    pert_time : float, str or list of these, default=None
        Times of exposure to keep, in h (24, "24 h"); None keeps all. Also for controls.
    pert_dose : float, str or list of these, default=None
        Doses to keep, in um (10, "10 uM", "500 nM"), within 1 %: 9.99 is 10. None keeps
        all. **Controls are never filtered by dose.**
    cell_lines : str or list of str, default=None
        Cell lines to keep; None keeps all.
    landmark_only : bool, default=True
        Keep only the 978 measured genes, and not the inferred ones.
    min_cell_lines : int, default=1
        Keep drugs that the other filters leave in at least so many lines.
    shared_by_all_lines : bool, default=False
        Keep drugs that the other filters leave in every one of `cell_lines` (of all
        lines left where that is None): the paper's cut.
    pert_type : str or list of str, default="trt_cp"
        Kinds of treatment, in LINCS codes. "trt_poscon" is a plate's positive control.
    control_types : str or list of str, default=("ctl_vehicle", "ctl_untrt")
        Kinds of control wells. Those on the plates of the profiles that are kept are
        loaded (Levels 3 and 4). An empty tuple loads none.
    metadata : path or DataFrame, default=None
        A table of profiles with a column ``inst_id``, ``sample_id``, ``sig_id`` or
        ``profile_id`` (a DataFrame may have the id as its index instead). Where it
        knows a value (``smiles``, ``moa``, ``plate``, ``dose_um``, ...), that value
        counts, and not the one of the release.
    on_bad_smiles : {"drop", "raise"}, default="drop"
        What to do with treated profiles whose SMILES is missing, withheld
        ("restricted") or unreadable: leave them out with a warning, or raise.
    gene_order : {"entrez", "file"}, default="entrez"
        Genes by ascending Entrez id (the paper's order), or as in the first matrix.
    progress : bool or "auto", default="auto"
        Show a progress bar while matrices are read. "auto" shows one on a terminal,
        when the reading takes more than two seconds.
    n_jobs : int or None, default=None
        Threads that read a matrix, as in :func:`read_gctx`. The study is the same.
    mmap_path : path, default=None
        A ``.npy`` file for the profiles: they are written there as they are read, and
        the study maps the file, read-only, so that it may be larger than memory. Those
        of the controls go beside it, into ``name.controls.npy`` for ``name.npy``. A
        file that is there is replaced. Room on the disk is reserved before anything is
        read. None keeps all in memory.
    missing : {"raise", "nan"}, default="raise"
        What to do with values that are missing in a matrix (NaN, empty, -666): raise,
        or keep them as NaN, which estimators refuse, and count them in ``dropped``.
    layer : str, default=None
        The layer of ``.h5ad`` files with the profiles; None takes ``X``.

    Returns
    -------
    study : Study
        Its rows are in the order of the matrices. ``study.dropped`` is the account of
        all filters, one row each.

    Raises
    ------
    FileNotFoundError
        If there is no matrix of the level, or no folder for `mmap_path`.
    OSError
        If the disk has no room for `mmap_path`; a file that was there stays.
    ValueError
        If a needed table or column is missing, a profile or gene stands twice, a
        filter leaves nothing (with the number of profiles after each filter), fewer
        than 10 % of the profiles have a row in the tables, several tables may be that
        of the profiles, or values are infinite, or missing with ``missing="raise"``.
    InvalidSmilesError
        If a SMILES is bad and ``on_bad_smiles="raise"``.

    Warns
    -----
    UserWarning
        If profiles have no readable SMILES, a table has an id twice (its first row
        counts), genes are not in every matrix (common ones are kept), or plates at
        Level 3 have no control.
    DataWarning
        If profiles have no row in the tables; ids match in another spelling only
        (blanks, quotation marks, case; a batch ``BRD-K12345678-001-02-3`` of
        ``BRD-K12345678``); doses or times cannot be read; a ``pert_id`` has two
        structures; landmark genes are in no matrix; or values do not look like those
        of their level (names the layers of ``.h5ad``); or genes have earlier names.

    See Also
    --------
    fetch_lincs : Download a release.
    finlayson2020_study : The cut of Finlayson et al. (2020), with its split.
    Study : What is returned; its Notes list the columns of ``obs``.
    Study.from_anndata : The same from an AnnData object.
    Study.concat : Join studies from several sources.

    Notes
    -----
    ``plate`` is the detection plate where the release names it (LINCS 2020, GSE70138)
    and the RNA plate where not (GSE92742). Of several tables of compounds the first
    that knows a structure counts.

    Doses are read as um and times as h from whatever unit stands in the cell ("500 nM",
    "24 hours"), in a column of its own (``pert_dose_unit``) or in the column's name
    (``dose_nM``); a number without any is in um or h. What is not molar (ng/ml, %) is
    NaN, as is LINCS's -666. The first row of ``dropped`` counts the units.

    A drug is a molecule by its structure, not a ``pert_id``: see
    :func:`~sklearn_molge.molecules.drug_ids`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import pandas as pd
    >>> from sklearn_molge.datasets import load_lincs, write_gctx
    >>> with TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     ids = ["sig1", "sig2", "sig3"]
    ...     write_gctx(
    ...         folder / "level5.gctx",
    ...         [[1, 2], [3, 4], [5, 6]],
    ...         pd.DataFrame(index=ids),
    ...         pd.DataFrame(index=["23", "16"]),
    ...     )
    ...     pd.DataFrame(
    ...         {
    ...             "sig_id": ids,
    ...             "pert_id": ["B1", "B2", "B1"],
    ...             "pert_type": "trt_cp",
    ...             "cell_id": ["A375", "A375", "PC3"],
    ...             "pert_idose": ["10 uM", "9.99 um", "1 uM"],
    ...             "canonical_smiles": ["CCO", "CCN", "CCO"],
    ...         }
    ...     ).to_csv(folder / "sig_info.csv")
    ...     study = load_lincs(folder, level=5, pert_dose=10, landmark_only=False)
    >>> study
    Study: 2 profiles (level 5) of 2 drugs in 1 cell line, 2 genes, 0 controls
    >>> study.ge
    array([[2., 1.],
           [4., 3.]], dtype=float32)
    >>> study.dropped[["step", "n_dropped", "n_left"]]
                      step  n_dropped  n_left
    0      in the matrices          0       3
    1     pert_type=trt_cp          0       3
    2      pert_dose=10 um          1       2
    """
    times = parse_wanted(pert_time, "pert_time", "time_h")
    doses = parse_wanted(pert_dose, "pert_dose", "dose_um")
    store = _ProfileStore(mmap_path)
    files = find_files(folder, level)
    matrices = open_matrices(files.matrices)
    with_layers = h5ad_files(matrices, layer)
    wells = None if metadata is not None else find_wells(files, matrices)
    genes, gene_positions = choose_genes(
        matrices, files, landmark_only=landmark_only, gene_order=gene_order
    )
    obs = profile_table(matrices, files, metadata)
    funnel = select_treated(
        obs,
        pert_types=as_tuple(pert_type),
        times=times,
        doses=doses,
        cell_lines=None if cell_lines is None else as_tuple(cell_lines),
        on_bad_smiles=on_bad_smiles,
        min_cell_lines=min_cell_lines,
        shared_by_all_lines=shared_by_all_lines,
    )
    treated = funnel.obs
    if wells is not None:
        funnel.note(f"profiles by {wells.name}")
    types = as_tuple(control_types) if level < 5 else ()
    controls = select_controls(obs, treated, types, times)
    del obs  # of the whole release: away before the arrays come
    if types and level == 3:
        _warn_of_plates_without_control(treated, controls)

    def read(rows: pd.DataFrame, name: str = "") -> tuple[NDArray, pd.DataFrame]:
        with store.fill((len(rows), len(genes)), name) as arrays:
            read_profiles(
                matrices,
                rows.index.to_numpy(),
                gene_positions,
                arrays[0],
                progress=progress,
                n_jobs=n_jobs,
                missing=missing,
                layer=layer,
            )
        return arrays[0], rows.set_axis(_names_of(rows, matrices), axis=0)

    ge, treated = read(treated)
    control_ge, controls = read(controls, "controls")
    hint = partial(layers_hint, with_layers if layer is None else [])
    warn_of_scale(ge, level, where=files.where, stacklevel=3, hint=hint)
    if missing == "nan":
        funnel.tell_missing(ge, control_ge)
    return Study(
        treated["smiles"].to_numpy(object),
        ge=ge,
        obs=treated[OBS_COLUMNS],
        genes=genes,
        control_ge=control_ge if len(controls) else None,
        control_obs=controls[CONTROL_COLUMNS] if len(controls) else None,
        level=level,
        dropped=funnel.report(),
    )


def _names_of(rows: pd.DataFrame, matrices: Sequence[Matrix]) -> pd.Index:
    return decode_ids(ids_of(matrices, rows.index.to_numpy()))


def _warn_of_plates_without_control(
    treated: pd.DataFrame, controls: pd.DataFrame
) -> None:
    bare = treated.loc[~treated["plate"].isin(controls["plate"]), "plate"]
    if len(bare):
        warnings.warn(
            f"{len(bare):,} profiles on {bare.nunique(dropna=False):,} plates have no "
            "control on their plate, so that paired_ge will refuse: "
            f"{first_few(bare.unique(), write=str)}.",
            UserWarning,
            stacklevel=4,
        )


class _ProfileStore:
    """Where profiles are put while they are read: memory, or memory-mapped files.

    `path` is the file of the treated profiles, None for memory.
    """

    def __init__(self, path: str | PathLike[str] | None):
        self.path = None if path is None else Path(path)
        if self.path is None:
            return
        if self.path.suffix != ".npy":
            raise ValueError(
                f"mmap_path must be the path of a .npy file, or None. "
                f"Got {fspath(self.path)!r}."
            )
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {str(self.path.parent)!r}.")

    def path_of(self, name: str) -> Path | None:
        """Return the file of an array: ``x.npy``, or ``x.name.npy``."""
        if self.path is None or not name:
            return self.path
        return self.path.with_suffix(f".{name}.npy")

    @contextmanager
    def fill(
        self, shape: tuple[int, int], name: str = ""
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Give an array to fill, in a list; afterwards the list holds the result.

        A file has its name only when it is whole, and is read-only then.
        """
        path = self.path_of(name)
        if path is None or 0 in shape:  # an empty file cannot be mapped
            yield [np.empty(shape, dtype=np.float32)]
            return
        with replacing(path) as draft:
            mapped = _map_new(draft, shape)
            filled: list[NDArray[np.float32]] = [mapped]
            yield filled
            mapped.flush()
            del mapped, filled[:]  # Windows renames no mapped file
        filled.append(np.load(path, mmap_mode="r"))


def _map_new(path: Path, shape: tuple[int, int]) -> np.memmap:
    """Map a new ``.npy`` file for writing, with room on the disk for all of it."""
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, np.float32))
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
        start = file.tell()
    reserve(path, start + np.dtype(np.float32).itemsize * math.prod(shape))
    return np.lib.format.open_memmap(path, "r+")
