"""SmilesTransformer: what every transformer of SMILES shares."""

from __future__ import annotations

import warnings
from typing import Self

import joblib
import numpy as np
from scipy import sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import _fit_context
from sklearn_molge._utils.identity import NotImportableError, describe
from sklearn_molge._utils.rows import as_smiles_array, factorize_texts
from sklearn_molge._utils.typing import Matrix
from sklearn_molge.exceptions import InvalidSmilesError, InvalidSmilesWarning
from sklearn_molge.molecules._smiles import (
    MAX_ATOMS,
    may_be_pattern,
    recent_results,
    refuse_invalid,
    shared_molecule,
    valid_smiles_mask,
)

__all__ = ["SmilesTransformer"]

# Fixed, so that the result cannot depend on n_jobs.
_CHUNK_SIZE = 256


class SmilesTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of transformers of SMILES: computes each distinct text once per call.

    A subclass has the parameters `n_jobs`, perhaps `on_bad_smiles` and, where its time
    grows fast with the molecule, `max_atoms`; ``_fit(texts)``, which checks parameters
    and texts and learns, and ``_featurize(mols)``, which returns a row of features a
    molecule, by the parameters alone, or as they were learnt: ``names_`` of ``names``.
    It runs in the worker and builds RDKit's objects there, since they do not pickle.
    What becomes of its features, ``_features(texts)``, is up to ``_transform(texts)``.
    """

    on_bad_smiles = "raise"  # of a subclass without that parameter
    # Parameters that say nothing about the features of a molecule.
    _not_of_features = frozenset({"n_jobs", "on_bad_smiles", "sparse_output", "clip"})
    _reads_first = False  # all texts, since computing takes far longer

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Check the parameters and X, and learn what the class learns, if anything.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted transformer.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        ValueError
            If parameters are wrong, do not go together, or X is not one column.
        """
        self._on_distinct(self._fit, X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None) -> Matrix:
        """Equal to ``fit(X).transform(X)``, but computes each molecule once.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        features : ndarray or sparse matrix of shape (n_samples, n_features_out)
            See :meth:`transform`; for errors, :meth:`fit`.
        """
        return self._rows(*self._on_distinct(self._fit_transform, X))

    def transform(self, X) -> Matrix:
        """Compute the features of each molecule.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.

        Returns
        -------
        features : ndarray or sparse matrix of shape (n_samples, n_features_out)
            Fingerprints are bits as uint8 or counts as uint32, in a CSR matrix if
            sparse (an array under ``sklearn.set_config(sparse_interface="sparray")``).
            Descriptors and the vectors of a network are float32. With
            ``on_bad_smiles="nan"`` all are float32, whether entries are bad or not,
            and a bad one has a row of NaN, of which a sparse matrix stores every entry.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        """
        check_is_fitted(self)
        return self._rows(*self._on_distinct(self._transform, X))

    def _on_distinct(self, function, X):
        """Call `function` with the distinct texts; say which of them each entry is."""
        array = as_smiles_array(X)
        if len(array) == 0:
            raise ValueError(
                "Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is "
                f"required by {type(self).__name__}."
            )
        codes, texts = factorize_texts(array)
        if self.on_bad_smiles == "nan":
            valid = valid_smiles_mask(texts, max_atoms=self._max_atoms)
            self._warn_of_bad(valid[codes])
            texts = texts[valid]
        else:
            valid = np.ones(len(texts), dtype=bool)
        try:
            return function(texts), codes, valid
        except InvalidSmilesError as error:
            bad = np.flatnonzero(np.isin(codes, error.indices))
            reasons = dict(zip(error.indices, error.reasons, strict=False))
            known = [reasons.get(code) for code in codes[bad]]
            raise InvalidSmilesError(bad.tolist(), array[bad].tolist(), known) from None

    @property
    def _max_atoms(self):
        return getattr(self, "max_atoms", MAX_ATOMS)

    def _warn_of_bad(self, valid):
        n_bad = int((~valid).sum())
        if n_bad == len(valid):
            raise ValueError(
                f"{type(self).__name__} needs at least 1 molecule, and none of the "
                f"{n_bad:,} entries of X is one."
            )
        if n_bad:
            warnings.warn(
                f"{n_bad:,} of {len(valid):,} entries of X are no molecules of at most "
                f"{self._max_atoms:,} heavy atoms: their rows are NaN.",
                InvalidSmilesWarning,
                stacklevel=5,
            )

    def _rows(self, features, codes, valid):
        """Rows of the entries, from those of the distinct molecules among them."""
        if self.on_bad_smiles == "raise":
            return features[codes]
        features = features.astype(np.float32)
        if valid.all():
            return features[codes]
        nothing = np.full((1, features.shape[1]), np.nan, dtype=np.float32)
        if sparse.issparse(features):
            stacked = sparse.vstack([features, type(features)(nothing)], format="csr")
        else:
            stacked = np.concatenate([features, nothing])
        rows = np.where(valid, np.cumsum(valid) - 1, features.shape[0])
        return stacked[rows[codes]]

    def _fit_transform(self, texts):
        self._fit(texts)
        return self._transform(texts)

    def _transform(self, texts):
        return self._features(texts)

    def _features(self, texts, *, wildcards=True):
        """Return the features of distinct texts: known ones, and those of the others.

        Without `wildcards`, patterns are refused, see :func:`check_smiles`.
        """
        recent, settings = recent_results(), self._settings()
        known = [
            recent.get((settings, text)) if isinstance(text, str) else None
            for text in texts
        ]
        is_new = np.array([row is None for row in known], dtype=bool)
        if not is_new.any():
            return _stack_rows(known)
        new, valid = texts[is_new], ~is_new
        options = {"wildcards": wildcards, "max_atoms": self._max_atoms}
        if self._reads_first:
            valid[is_new] = valid_smiles_mask(new, **options)
            refuse_invalid(texts, valid, **options)
        chunks = Parallel(n_jobs=self.n_jobs)(
            delayed(_featurize_texts)(self, new[part], options)
            for part in gen_batches(len(new), _CHUNK_SIZE)
        )
        valid[is_new] = np.concatenate([valid for _, valid in chunks])
        refuse_invalid(texts, valid, **options)
        features = _stack([features for features, _ in chunks])
        if settings is not None:
            _keep_rows(features, new, settings)
        if is_new.all():
            return features
        features = _stack([features, _stack_rows([r for r in known if r is not None])])
        return features[np.argsort(np.argsort(~is_new, kind="stable"))]

    def _settings(self):
        """Return what decides the features, None if it is not told from others."""
        params = self.get_params(deep=False).items()
        # What was learnt counts: a parameter may have been changed since.
        kept = {
            k: getattr(self, f"{k}_", v)
            for k, v in params
            if k not in self._not_of_features
        }
        try:
            return type(self), joblib.hash(describe(kept))
        except NotImportableError:
            return None

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _stack(parts):
    if sparse.issparse(parts[0]):
        return sparse.vstack(parts, format="csr")
    return np.concatenate(parts)


def _keep_rows(features, texts, settings):
    """Keep as many rows for later calls as there is room for: the last ones."""
    recent = recent_results()
    is_sparse = sparse.issparse(features)
    values = features.data if is_sparse else features
    indices = features.indices if is_sparse else values[:0]
    n_bytes = 1 + (values.nbytes + indices.nbytes) // len(texts)
    first = max(0, len(texts) - recent.limit // n_bytes)
    for i, text in enumerate(texts[first:], start=first):
        # A pattern is no molecule: whether it is refused is asked every time.
        if may_be_pattern(text):
            continue
        if is_sparse:
            part = slice(*features.indptr[i : i + 2])
            row = indices[part].copy(), values[part].copy(), features.shape[1]
        else:
            row = values[i].copy()
        recent.keep((settings, text), row, len(text) + n_bytes)


def _stack_rows(rows):
    if not isinstance(rows[0], tuple):
        return np.stack(rows)
    indices, data, (width, *_) = zip(*rows, strict=True)
    indptr = np.cumsum([0, *map(len, indices)], dtype=np.int32)
    parts = np.concatenate(data), np.concatenate(indices), indptr
    return sparse.csr_array(parts, shape=(len(rows), width))


def _featurize_texts(transformer, texts, options):
    """Features of a chunk, None if one of its texts is not a molecule; which are."""
    mols = [shared_molecule(text, **options) for text in texts]
    valid = np.array([mol is not None for mol in mols])
    return (transformer._featurize(mols) if valid.all() else None), valid
