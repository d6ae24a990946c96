"""Errors that callers may want to catch by name."""

from collections.abc import Sequence

__all__ = ["InvalidSmilesError", "MissingControlError"]

_N_SHOWN = 20


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
        pairs = list(zip(self.indices, self.entries, strict=True))
        shown = ", ".join(f"index {i}: {e!r}" for i, e in pairs[:_N_SHOWN])
        more = len(pairs) - _N_SHOWN
        tail = f", and {more} more (see the `indices` attribute)" if more > 0 else ""
        what = (
            "1 entry of X is not a valid SMILES"
            if len(pairs) == 1
            else f"{len(pairs)} entries of X are not valid SMILES"
        )
        return f"{what}: {shown}{tail}."


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
        names = ", ".join(repr(p) for p in self.plates[:_N_SHOWN])
        more = len(self.plates) - _N_SHOWN
        tail = f" and {more} more" if more > 0 else ""
        return (
            f"No control well on plate(s) {names}{tail}; every treated plate needs one."
        )
