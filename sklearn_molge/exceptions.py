"""Errors and warnings that callers may want to catch, or filter, by name."""

import os
from collections.abc import Sequence
from itertools import chain, repeat

from sklearn_molge._utils.messages import counted, first_few, first_few_at, shortened

__all__ = [
    "CalibrationWarning",
    "CorruptFileError",
    "DataWarning",
    "FewCandidatesWarning",
    "FewDrugsWarning",
    "GeneNamesWarning",
    "InvalidSmilesError",
    "InvalidSmilesWarning",
    "JointSpaceWarning",
    "LeakageWarning",
    "LibraryWarning",
    "MissingControlError",
    "ModelVersionWarning",
    "PickledModelWarning",
    "UnstorableModelError",
    "UntrustedFileError",
]


class CorruptFileError(ValueError):
    """A file is cut, damaged or not what it should be.

    Parameters
    ----------
    path : path-like
        The file.
    part : str
        The part of it that cannot be used; empty for the whole.
    why : str
        What is wrong with it.

    Attributes
    ----------
    path : str
    part : str
    why : str

    Examples
    --------
    >>> from sklearn_molge.exceptions import CorruptFileError
    >>> print(CorruptFileError("a.gctx", "dataset 'matrix'", "it ends at row 3 of 10"))
    a.gctx cannot be read: dataset 'matrix': it ends at row 3 of 10.
    """

    def __init__(self, path: str | os.PathLike[str], part: str, why: str):
        self.path, self.part, self.why = os.fspath(path), part, why
        # Exceptions are unpickled by calling the class with `args`.
        super().__init__(self.path, self.part, self.why)

    def __str__(self) -> str:
        part = f"{self.part}: " if self.part else ""
        return f"{self.path} cannot be read: {part}{self.why.rstrip('.')}."


class UntrustedFileError(ValueError):
    """A file would run code, and was not written by this installation.

    Parameters
    ----------
    path : path-like
        The file.
    names : sequence of str
        The classes and functions that it would call.
    is_all : bool, default=True
        Whether these are all; False where the file could not be read to its end.
    instead : str, default=""
        What else can be done, a whole sentence.

    Attributes
    ----------
    path : str
    names : list of str
    is_all : bool
    instead : str

    Examples
    --------
    >>> from sklearn_molge.exceptions import UntrustedFileError
    >>> print(UntrustedFileError("embedder.pickle", ["os.system"]))
    embedder.pickle is a pickle that this installation did not write. Opening it
    runs the code that it names: os.system. Give trust=True only if you trust
    whoever wrote it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        names: Sequence[str],
        is_all: bool = True,
        instead: str = "",
    ):
        self.path, self.instead = os.fspath(path), instead
        self.names, self.is_all = list(names), is_all
        super().__init__(self.path, self.names, self.is_all, self.instead)

    def __str__(self) -> str:
        named = first_few(self.names, write=str, n=20) or "nothing"
        more = "" if self.is_all else ", and what cannot be told without running it"
        instead = f"{self.instead} " if self.instead else ""
        return (
            f"{self.path} is a pickle that this installation did not write. Opening it "
            f"runs the code that it names: {named}{more}. {instead}Give trust=True "
            "only if you trust whoever wrote it."
        )


class UnstorableModelError(TypeError):
    """A part of an estimator cannot be held by a file that runs no code.

    Parameters
    ----------
    part : str
        Where it is, as one would write it in Python.
    what : str
        What it is.
    instead : str, default=""
        What else can be done.

    Attributes
    ----------
    part : str
    what : str
    instead : str

    See Also
    --------
    sklearn_molge.persistence.save_model : Raises it.

    Examples
    --------
    >>> from sklearn_molge.exceptions import UnstorableModelError
    >>> print(UnstorableModelError("estimator.func", "a lambda"))
    A model file cannot hold estimator.func: it is a lambda. Keep the estimator on your
    own machine by joblib.dump(estimator, path).
    """

    def __init__(self, part: str, what: str, instead: str = ""):
        self.part, self.what, self.instead = part, what, instead
        super().__init__(part, what, instead)

    def __str__(self) -> str:
        instead = f" {self.instead}, or keep" if self.instead else " Keep"
        return (
            f"A model file cannot hold {self.part}: it is {self.what}.{instead} the "
            "estimator on your own machine by joblib.dump(estimator, path)."
        )


class ModelVersionWarning(UserWarning):
    """A model file was written with other versions, and may answer differently here."""


class PickledModelWarning(UserWarning):
    """An index keeps its estimator as a pickle, since no model file can hold it.

    Others open the folder only with the estimator at hand, or with ``trust=True``.

    See Also
    --------
    sklearn_molge.persistence.save_model : What a model file can hold.
    """


class FewCandidatesWarning(UserWarning):
    """So few molecules were ranked that the score says little, or nothing.

    Among one candidate every model is right: such a rank, and a score of it, is NaN.
    Below 20 chance alone has a mean reciprocal rank above 0.18, and ``hits@k`` is 1 for
    every model once there are no more than k candidates.

    See Also
    --------
    sklearn_molge.model_selection.cross_val_ranks : Ranks among all drugs, pooled.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_molge.exceptions import FewCandidatesWarning
    >>> warnings.simplefilter("error", FewCandidatesWarning)  # to stop at the first
    """


class FewDrugsWarning(UserWarning):
    """A model is trained on so few molecules that more of them would help most.

    On real data the mean reciprocal rank of a
    :class:`~sklearn_molge.alignment.GaussianProcessRetriever` was 0.135 with 150
    training drugs, 0.188 with 300, 0.236 with 500 and 0.250 with 1,500; that of CCA was
    0.133 with 150, so another model does not make up for few drugs. Hence
    :func:`~sklearn_molge.evaluation.evaluate_study` and ``molge train`` warn below 300.
    Estimators do not: folds of a cross-validation are smaller than what is trained in
    the end.

    Parameters
    ----------
    n_drugs : int
        How many distinct molecules are trained on.

    Attributes
    ----------
    n_drugs : int
    fewest : int
        300, from which on nothing is said.

    Examples
    --------
    >>> from sklearn_molge.exceptions import FewDrugsWarning
    >>> print(FewDrugsWarning(80))
    80 drugs to train on are few: on real data the mean reciprocal rank was 0.135 with
    150, 0.188 with 300 and 0.236 with 500. More drugs help more than another model.
    """

    fewest = 300

    def __init__(self, n_drugs: int):
        self.n_drugs = n_drugs
        # Warnings are unpickled by calling the class with `args`.
        super().__init__(n_drugs)

    def __str__(self) -> str:
        verb = "is" if self.n_drugs == 1 else "are"
        return (
            f"{counted(self.n_drugs, 'drug')} to train on {verb} few: on real data the "
            "mean reciprocal rank was 0.135 with 150, 0.188 with 300 and 0.236 with "
            "500. More drugs help more than another model."
        )


class LeakageWarning(UserWarning):
    """New profiles of molecules that a model was fitted on are scored as unseen.

    See Also
    --------
    sklearn_molge.model_selection.DrugCellLineKFold : Keeps drugs apart.
    sklearn_molge.evaluation.audit_split : What the parts of a split share.

    Examples
    --------
    >>> import warnings
    >>> from sklearn_molge.exceptions import LeakageWarning
    >>> warnings.simplefilter("error", LeakageWarning)  # to stop at the first
    """


class CalibrationWarning(UserWarning):
    """Beliefs and sets are calibrated, but say less than was asked for.

    See Also
    --------
    sklearn_molge.retrieval.ConformalRetriever : Says how sure an answer is.
    """


class InvalidSmilesError(ValueError):
    """Some entries of a SMILES array are not molecules.

    Parameters
    ----------
    indices : sequence of int
        Positions of the bad entries.
    entries : sequence
        The bad entries, as they came.
    reasons : sequence of str or None, default=()
        Why the first of them are none, where the text alone does not show it: an atom
        that may be any, too many atoms.

    Attributes
    ----------
    indices : list of int
        Positions of every bad entry.
    entries : list
        Every bad entry, as it came.
    reasons : list of str or None
        As given.

    Examples
    --------
    >>> from sklearn_molge.exceptions import InvalidSmilesError
    >>> print(InvalidSmilesError([1], ["-666"]))
    1 entry of X is not a valid SMILES: index 1: '-666'.
    """

    def __init__(
        self,
        indices: Sequence[int],
        entries: Sequence[object],
        reasons: Sequence[str | None] = (),
    ):
        self.indices = list(indices)
        self.entries = list(entries)
        self.reasons = list(reasons)
        # Exceptions are unpickled by calling the class with `args`.
        super().__init__(self.indices, self.entries, self.reasons)

    def __str__(self) -> str:
        n = len(self.entries)
        what = "entry of X is not a" if n == 1 else "entries of X are not"
        known = chain(self.reasons, repeat(None))
        texts = [
            shortened(entry) + (f" ({reason})" if reason else "")
            for entry, reason in zip(self.entries, known, strict=False)
        ]
        shown = first_few_at(self.indices, texts, write=str)
        return f"{n} {what} valid SMILES: {shown}."


class InvalidSmilesWarning(UserWarning):
    """Some entries are not molecules, and have rows of NaN as the caller asked."""


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


class DataWarning(UserWarning):
    """A loader left out, renamed or could not read a part of the data.

    Studies and profiles are loaded in spite of it; what is missing is counted in the
    message.
    """


class JointSpaceWarning(UserWarning):
    """A joint space has fewer dimensions than asked for, or some that say nothing."""
