"""Downloading the public LINCS L1000 releases."""

import importlib.util
import os
import warnings
from numbers import Integral, Real
from pathlib import Path

from sklearn.datasets import get_data_home

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.datasets._lincs._files import RELEASES, select_files
from sklearn_molge.datasets._lincs._folder import LincsFolder

__all__ = ["fetch_lincs"]


@validate_params(
    {
        "release": [StrOptions(set(RELEASES))],
        "level": [Interval(Integral, 3, 5, closed="both")],
        "controls": ["boolean"],
        "data_home": [str, os.PathLike, None],
        "base_url": [str, None],
        "n_retries": [Interval(Integral, 0, None, closed="left")],
        "delay": [Interval(Real, 0, None, closed="left")],
        "progress": ["boolean"],
        "verify": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def fetch_lincs(
    release: str,
    *,
    level: int = 5,
    controls: bool = True,
    data_home: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
    progress: bool = True,
    verify: bool = True,
) -> Path:
    """Download one level of a public LINCS L1000 release, resume and check it.

    The checksum list comes first, then the small tables, then the matrices (up to
    83 GiB; see :func:`list_lincs_files` for names, sizes and addresses). Matrices are
    unpacked, for HDF5 cannot seek in gzip, which needs room for both forms until the
    packed one is deleted; tables stay as they are published.

    A file appears under its own name only when it is whole and checked. Until then
    its bytes are in the same folder under the name with ``.part`` at the end; they
    survive a broken connection, Ctrl-C and a killed process, and the same call goes on
    from there, unless the file changed on the server (by its ETag or date). Run one
    download of a file at a time.

    Needs ``pip install "sklearn-molge[fetch]"``.

    Parameters
    ----------
    release : {"GSE92742", "GSE70138", "LINCS2020"}
        LINCS phase I and phase II as deposited in GEO, or the beta release of 2020
        of the Connectivity Map (CLUE), which takes in both. CLUE may ask for an
        account; a file that was got in another way is used where it lies in the
        folder under its public name.
    level : {3, 4, 5}, default=5
        3: normalised log2 intensities of wells, 4: z-scores of wells, 5: moderated
        z-scores of signatures (replicates merged).
    controls : bool, default=True
        Download the matrix of controls too, where it is a file of its own
        ("LINCS2020"). The matrices of GEO always hold treated and control wells.
    data_home : path-like, default=None
        Root of scikit-learn's data folders; None takes
        :func:`sklearn.datasets.get_data_home`, that is the environment variable
        ``SCIKIT_LEARN_DATA`` or ``~/scikit_learn_data``.
    base_url : str, default=None
        Address of a mirror of the release; None takes the release's own.
    n_retries : int, default=3
        Times in a row that a broken connection which brought no new byte is tried
        again.
    delay : float, default=1.0
        Seconds before the first retry; doubled after each failure, at most 60.
    progress : bool, default=True
        Show a progress bar a file.
    verify : bool, default=True
        Check every file. "GSE92742" and "GSE70138" have a list of SHA-512 sums;
        "LINCS2020" has none, but its download page shows MD5 sums, of which those of
        the tables and of Level 5 are known here. For the other matrices of
        "LINCS2020" there is only what the server tells: its ETag where that is a
        plain MD5, else the length; a warning says so.

    Returns
    -------
    folder : Path
        ``data_home/lincs/release``, as :func:`load_lincs` reads it. Checked files
        are noted in ``verified.json`` there with their size; a later call compares
        only the size and downloads what is missing.

    Raises
    ------
    ConnectionError
        If the server cannot be reached or the connection keeps breaking. What has
        come is kept.
    OSError
        If a file is refused by the server, or came corrupt twice.
    ValueError
        If `base_url` is not an address of HTTP.
    ImportError
        If pooch or requests is not installed.

    Warns
    -----
    UserWarning
        If a file came corrupt and is downloaded again, or cannot be checked.

    See Also
    --------
    list_lincs_files : Names, sizes and addresses, without a network.
    load_lincs : Read the folder.

    Examples
    --------
    >>> from sklearn_molge.datasets import fetch_lincs, load_lincs
    >>> folder = fetch_lincs("GSE70138", level=5)  # doctest: +SKIP
    >>> study = load_lincs(folder, level=5)  # doctest: +SKIP
    """
    missing = [m for m in ("pooch", "requests") if importlib.util.find_spec(m) is None]
    if missing:
        raise ImportError(
            f"fetch_lincs needs {' and '.join(missing)}: "
            'pip install "sklearn-molge[fetch]"'
        )
    source = RELEASES[release]
    base_url = base_url or source.base_url
    if not base_url.startswith(("http://", "https://")):
        raise ValueError(
            f'base_url must start with "http://" or "https://". Got {base_url!r}.'
        )
    path = Path(get_data_home(data_home)) / "lincs" / release
    path.mkdir(parents=True, exist_ok=True)
    folder = LincsFolder(
        path,
        base_url,
        verify=verify,
        progress=progress,
        n_retries=n_retries,
        delay=delay,
    )
    folder.fetch(source, select_files(release, level, controls))
    if folder.unchecked:
        names = "; ".join(folder.unchecked)
        warnings.warn(
            f"No checksum is published, or known here, for {names}.", stacklevel=3
        )
    return path
