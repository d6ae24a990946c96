"""The public files of the LINCS L1000 releases: names, sizes, order and places.

Sizes are what the servers announced (Content-Length) and MD5 sums are those of the
download page of CLUE, as public projects recorded them; what no such record
gives is None.
"""

from dataclasses import dataclass
from numbers import Integral

import pandas as pd

from sklearn_molge._compat import Interval, StrOptions, validate_params

__all__ = ["RELEASES", "LincsFile", "Release", "list_lincs_files", "select_files"]

_GIB = 2**30
_ALL_LEVELS = (3, 4, 5)
_WELLS = (3, 4)
_SIGNATURES = (5,)


@dataclass(frozen=True)
class LincsFile:
    """One public file.

    `size` is exact, in bytes; `about_gib` is the rounded size of a directory listing,
    or 4 bytes a value of an unpacked matrix, and is never used to check a file.
    """

    name: str
    purpose: str
    levels: tuple[int, ...] = _ALL_LEVELS
    size: int | None = None
    about_gib: float | None = None
    md5: str | None = None
    path: str = ""
    controls_only: bool = False

    @property
    def saved_as(self) -> str:
        """Name on disk: matrices are unpacked, for HDF5 cannot seek in gzip."""
        return self.name.removesuffix(".gz") if self.is_packed else self.name

    @property
    def is_packed(self) -> bool:
        """Whether the file is a packed matrix."""
        return self.name.endswith(".gctx.gz")

    def url(self, base_url: str) -> str:
        """Address of the file below `base_url`."""
        return f"{base_url.rstrip('/')}/{self.path}{self.name}"


@dataclass(frozen=True)
class Release:
    """A release: its address, its checksum file and its other files, in order."""

    base_url: str
    files: tuple[LincsFile, ...]
    checksums: LincsFile | None = None


_TABLES = {
    "cell_info": ("cell lines", _ALL_LEVELS),
    "gene_info": ("genes", _ALL_LEVELS),
    "pert_info": ("perturbagens", _ALL_LEVELS),
    "sig_info": ("signatures", _SIGNATURES),
    "sig_metrics": ("quality of signatures", _SIGNATURES),
    "inst_info": ("wells", _WELLS),
}
_VALUES = {
    3: "normalised log2 intensities",
    4: "z-scores",
    5: "moderated z-scores of signatures",
}


def _geo(
    accession: str,
    checksums_size: int | None,
    tables: list[tuple[str, str, int]],
    matrices: list[tuple[int, str, int | None, float | None]],
) -> Release:
    """Release in the supplementary folder of a GEO series."""
    series = f"{accession[:-3]}nnn/{accession}"
    start = f"{accession}_Broad_LINCS_"
    return Release(
        base_url=f"https://ftp.ncbi.nlm.nih.gov/geo/series/{series}/suppl",
        checksums=LincsFile(
            f"{accession}_SHA512SUMS.txt.gz", "checksums", size=checksums_size
        ),
        files=(
            *(
                LincsFile(f"{start}{table}{date}.txt.gz", *_TABLES[table], size=size)
                for table, date, size in tables
            ),
            *(
                LincsFile(
                    f"{start}Level{level}_{rest}.gctx.gz",
                    f"{_VALUES[level]}, treated and controls",
                    (level,),
                    size=size,
                    about_gib=about_gib,
                )
                for level, rest, size, about_gib in matrices
            ),
        ),
    )


_GSE92742 = _geo(
    "GSE92742",
    None,
    [
        ("cell_info", "", 2_528),
        ("gene_info", "", 216_692),
        ("pert_info", "", 1_138_509),
        ("sig_info", "", 11_124_404),
        ("inst_info", "", 12_046_182),
        ("sig_metrics", "", 12_520_228),
    ],
    [
        (3, "INF_mlr12k_n1319138x12328", None, 48.8),
        (4, "ZSPCINF_mlr12k_n1319138x12328", None, 49.6),
        (5, "COMPZ.MODZ_n473647x12328", 21_328_033_748, None),
    ],
)

_GSE70138 = _geo(
    "GSE70138",
    1_071,
    [
        ("cell_info", "_2017-04-28", 2_528),
        ("pert_info", "_2017-03-06", 82_376),
        ("gene_info", "_2017-03-06", 216_692),
        ("sig_info", "_2017-03-06", 1_943_865),
        ("sig_metrics", "_2017-03-06", 3_137_083),
        ("inst_info", "_2017-03-06", 4_783_200),
    ],
    [
        (3, "INF_mlr12k_n345976x12328_2017-03-06", None, 12.6),
        (4, "ZSPCINF_mlr12k_n345976x12328_2017-03-06", None, None),
        (5, "COMPZ_n118050x12328_2017-03-06", 5_365_179_698, None),
    ],
)


_TABLES_2020 = (
    ("cellinfo", "cell_info", 37_979, "c4686b4bcd2bad8fa64e229932c8d486"),
    ("geneinfo", "gene_info", 1_141_389, "45c725d17ce6c377f1e7de07b821a5f0"),
    ("compoundinfo", "pert_info", 4_631_014, "bf8e3a15ad026b47903c98d625195d24"),
    ("siginfo", "sig_info", 465_242_319, "ab609fc04fab21180b07833119d1c7b6"),
    ("instinfo", "inst_info", 674_838_120, "e1edf4e306cebcc6d3e061b5a50114dc"),
)


def _matrix_2020(
    level: int,
    kind: str,
    n_profiles: int,
    size: int | None = None,
    md5: str | None = None,
) -> LincsFile:
    wells = "controls" if kind == "ctl" else "compounds"
    return LincsFile(
        f"level{level}_beta_{kind}_n{n_profiles}x12328.gctx",
        f"{_VALUES[level]}, {wells}",
        (level,),
        size=size,
        about_gib=n_profiles * 12328 * 4 / _GIB,
        md5=md5,
        path=f"level{level}/",
        controls_only=kind == "ctl",
    )


_LINCS2020 = Release(
    base_url="https://s3.amazonaws.com/macchiato.clue.io/builds/LINCS2020",
    files=(
        *(
            LincsFile(f"{name}_beta.txt", *_TABLES[like], size=size, md5=md5)
            for name, like, size, md5 in _TABLES_2020
        ),
        _matrix_2020(3, "ctl", 188708),
        _matrix_2020(4, "ctl", 188708),
        _matrix_2020(5, "ctl", 58022, md5="4c70a6939637670d185775f2a2d98d67"),
        _matrix_2020(3, "trt_cp", 1805898),
        _matrix_2020(4, "trt_cp", 1805898),
        _matrix_2020(
            5, "trt_cp", 720216, 35_518_405_386, "9a82806e2aba6ec2a866cba77bd57fda"
        ),
    ),
)

RELEASES = {"GSE92742": _GSE92742, "GSE70138": _GSE70138, "LINCS2020": _LINCS2020}


def select_files(release: str, level: int, controls: bool) -> list[LincsFile]:
    """Files of one level in the order of their download, without the checksums."""
    return [
        file
        for file in RELEASES[release].files
        if level in file.levels and (controls or not file.controls_only)
    ]


@validate_params(
    {
        "release": [StrOptions(set(RELEASES))],
        "level": [Interval(Integral, 3, 5, closed="both")],
        "controls": ["boolean"],
        "base_url": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def list_lincs_files(
    release: str, *, level: int = 5, controls: bool = True, base_url: str | None = None
) -> pd.DataFrame:
    """List what :func:`fetch_lincs` would download, without a network.

    Parameters
    ----------
    release : {"GSE92742", "GSE70138", "LINCS2020"}
        The release; see :func:`fetch_lincs`.
    level : {3, 4, 5}, default=5
        3: normalised log2 intensities, 4: z-scores, 5: moderated z-scores.
    controls : bool, default=True
        With the matrix of controls, where it is a file of its own ("LINCS2020").
    base_url : str, default=None
        Address of a mirror; None takes the release's own.

    Returns
    -------
    files : DataFrame
        One row a file, in the order of the download, with the columns

        * `name`: the public name;
        * `size`: bytes, missing where no source gives them;
        * `gib`: size in GiB, rounded where `size` is missing (the directory listing
          of GEO, or 4 bytes a value for the unpacked matrices of "LINCS2020");
        * `checksum`: "sha512" (from the release's own list), "md5" (from its download
          page), or "server" (none is known: what the server tells is all there is);
        * `purpose`: what is in it;
        * `saved_as`: name on disk, without ``.gz`` for matrices;
        * `url`: where it lies.

    Examples
    --------
    >>> from sklearn_molge.datasets import list_lincs_files
    >>> files = list_lincs_files("LINCS2020", level=5, controls=False)
    >>> print(files[["name", "size"]].to_string(index=False))
                                     name        size
                        cellinfo_beta.txt       37979
                        geneinfo_beta.txt     1141389
                    compoundinfo_beta.txt     4631014
                         siginfo_beta.txt   465242319
     level5_beta_trt_cp_n720216x12328.gctx 35518405386
    """
    selected = RELEASES[release]
    files = select_files(release, level, controls)
    listed = [selected.checksums, *files] if selected.checksums else files
    return pd.DataFrame(
        {
            "name": [f.name for f in listed],
            "size": pd.array([f.size for f in listed], dtype="Int64"),
            "gib": [_gib(f) for f in listed],
            "checksum": [_checksum_kind(f, selected) for f in listed],
            "purpose": [f.purpose for f in listed],
            "saved_as": [f.saved_as for f in listed],
            "url": [f.url(base_url or selected.base_url) for f in listed],
        }
    )


def _gib(file: LincsFile) -> float | None:
    return file.about_gib if file.size is None else file.size / _GIB


def _checksum_kind(file: LincsFile, release: Release) -> str:
    if file.md5 is not None:
        return "md5"
    listed = release.checksums is not None and file is not release.checksums
    return "sha512" if listed else "server"
