"""What a column of fold changes holds, by its name and its numbers: always in log2."""

import re

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LOG_CHANGES",
    "RATIOS",
    "NoDirectionError",
    "bare",
    "has_no_sign",
    "in_log2",
    "is_percentage",
]

# Names of columns, in small letters and digits only, and what makes log2 of them.
_OF_BASE_E = ("lnfc", "lnfoldchange", "lnratio", "logefc", "logefoldchange")
_OF_BASE_10 = ("log10fc", "log10foldchange", "log10foldchanges", "log10ratio")
LOG_CHANGES = (
    *("log2foldchange", "log2fc", "logfc", "lfc", "l2fc", "avglog2fc", "avglogfc"),
    *("logfoldchange", "logfoldchanges", "log2foldchanges", "log2ratio"),
    *_OF_BASE_E,
    *_OF_BASE_10,
)
RATIOS = (
    *("foldchange", "fc", "foldchanges", "fold", "ratio", "linearfc", "fclinear"),
    *("linearfoldchange", "foldchangelinear", "avgfc", "avgfoldchange", "meanfc"),
    *("fcratio", "signedfc", "signedfoldchange"),
)
# What is never below 0, whichever way a gene went.
_UNSIGNED = {
    *("f", "fstat", "fstatistic", "fvalue", "lr", "lrstat", "lrt", "chisq", "chi2"),
    *("chisquare", "chisquared", "h", "w", "u", "wstat", "ustat", "auc", "myauc"),
    *("power", "basemean", "aveexpr", "avgexpr", "logcpm", "lfcse", "se", "stderr"),
    *("sd", "variance", "pct1", "pct2", "log10p", "log10pvalue", "log10pval"),
    *("log10padj", "log10fdr", "neglog10p", "neglog10pvalue", "neglog10padj"),
    *("minuslog10p", "mlog10p", "logp", "logpvalue"),
}
# What a tool adds to a name: the two that were compared, or that the sign is gone.
# As of Partek, "Fold-Change(drug vs. DMSO)", and GeneSpring, "FC ([drug] Vs [DMSO])".
_TWO = r".*(\bvs\b|\bversus\b|/).*"
_COMPARED = re.compile(rf"\s*(\({_TWO}\)|\[{_TWO}\])\s*$")
_ABSOLUTE = re.compile(r"\((abs|absolute|unsigned)\b")

# Of ratios; the sizes of log fold changes are mostly smaller.
LOWEST_MEDIAN = 0.5


class NoDirectionError(Exception):
    """Numbers that do not tell up from down; the text says why, after the column."""


def bare(name: str) -> str:
    """Return small letters and digits of the name of a column.

    Without what was compared, as in "Fold-Change(T vs. C)".
    """
    folded = name.casefold()
    return re.sub(r"[\W_]+", "", _COMPARED.sub("", folded) or folded)


def _is_size(name: str) -> bool:
    """Whether a name says that the sign was taken away, as absolute ones may."""
    is_called_so = bare(name).startswith(("abs", "unsigned"))
    return "|" in name or is_called_so or bool(_ABSOLUTE.search(name.casefold()))


def is_percentage(name: str) -> bool:
    """Whether a column holds percentages, by its name."""
    return "%" in name or "percent" in name.casefold()


def has_no_sign(name: str, values: NDArray[np.float64] | None = None) -> bool:
    """Whether a column has no direction by its name, and its numbers agree."""
    if values is not None and (values < 0).any():
        return False
    return _is_size(name) or (values is not None and bare(name) in _UNSIGNED)


def in_log2(
    name: str, values: NDArray[np.float64], *, of_seurat: bool = False
) -> tuple[NDArray[np.float64], str]:
    """Return fold changes in log2, and how they were made of a column.

    Ratios (halved: 0.5) and signed fold changes (halved: -2, so none lies between -1
    and 1) are told by their numbers. A ratio of 0 has no logarithm: no value.

    Raises
    ------
    NoDirectionError
        If the numbers may be sizes, where halved genes are there as 2.
    """
    own = bare(name)
    if own not in RATIOS:
        if own in _OF_BASE_10:
            return values / np.log10(2), f"{name} / log10(2)"
        if own in _OF_BASE_E or (of_seurat and own == "avglogfc"):
            return values / np.log(2), f"{name} / ln(2)"
        return values, name
    given, values = values, np.where(values == 0, np.nan, values)
    known = values[np.isfinite(values)]
    if (known < 0).any():
        if (np.abs(known) < 1).any():
            return given, f"{name}, log fold changes: some are between -1 and 1"
        return np.sign(values) * np.log2(np.abs(values)), f"sign({name}) * log2|{name}|"
    both = (known < 1).any() and (known > 1).any()
    if not both or np.median(known) < LOWEST_MEDIAN:
        least, most = (known.min(), known.max()) if len(known) else (np.nan, np.nan)
        raise NoDirectionError(
            f"has values from {least:g} to {most:g}, none below 0: ratios of all genes "
            "lie around 1, and these may be sizes, of genes that went up or down"
        )
    return np.log2(values), f"log2({name}), of ratios"
