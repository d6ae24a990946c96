"""Errors and warnings that callers may want to catch by name."""

from collections.abc import Sequence

from sklearn_molge._utils.messages import first_few, first_few_at

__all__ = [
    "GeneNamesWarning",
    "InvalidSmilesError",
    "LibraryWarning",
    "MissingControlError",
]


class InvalidSmilesError(ValueError):
    """Some entries of a SMILES array are not molecules.

    Parameters
    ----------
    indices : sequence of int
        Positions of the bad entries.
    entries : sequence
        The bad entries, as they came.

    Attributes
    ----------
    indices : list of int
        Positions of every bad entry.
    entries : list
        Every bad entry, as it came.

    Examples
    --------
    >>> from sklearn_molge.exceptions import InvalidSmilesError
    >>> print(InvalidSmilesError([1], ["-666"]))
    1 entry of X is not a valid SMILES: index 1: '-666'.
    """

    def __init__(self, indices: Sequence[int], entries: Sequence[object]):
        self.indices = list(indices)
        self.entries = list(entries)
        # Exceptions are unpickled by calling the class with `args`.
        super().__init__(self.indices, self.entries)

    def __str__(self) -> str:
        n = len(self.entries)
        what = "entry of X is not a" if n == 1 else "entries of X are not"
        return f"{n} {what} valid SMILES: {first_few_at(self.indices, self.entries)}."


class GeneNamesWarning(UserWarning):
    """Names of genes were missing, came twice, or were guessed."""


class LibraryWarning(UserWarning):
    """A library of molecules was read in part, or not as it may seem.

    Rows that are no molecule, names that were not found, characters that were guessed.
    """


class MissingControlError(ValueError):
    """A plate with treated wells has no control well.

    Parameters
    ----------
    plates : sequence of str
        The plates without a control.
    """

    def __init__(self, plates: Sequence[str]):
        self.plates = list(plates)
        super().__init__(self.plates)

    def __str__(self) -> str:
        return (
            f"No control well on plate(s) {first_few(self.plates)}; "
            "every treated plate needs one."
        )
