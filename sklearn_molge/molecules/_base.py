"""What every transformer of SMILES shares."""

from itertools import chain

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._compat import _fit_context
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules._smiles import check_smiles, parse_smiles

# Fixed, so that the result cannot depend on n_jobs.
_CHUNK_SIZE = 256


class SmilesTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Base of transformers of SMILES: computes each distinct text once per call.

    A subclass has the parameter `n_jobs` and ``_featurize(mols)``, which returns one
    row of features for each molecule. It runs in the worker and builds RDKit's
    objects there, since they do not pickle.
    """

    def _distinct_features(self, X):
        """Features of the distinct texts, and which of them each entry of X is."""
        array = as_smiles_array(X)
        if len(array) == 0:
            raise ValueError(
                "Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is "
                f"required by {type(self).__name__}."
            )
        codes, texts = pd.factorize(array, use_na_sentinel=False)
        chunks = Parallel(n_jobs=self.n_jobs)(
            delayed(_featurize_texts)(self, texts[rows])
            for rows in gen_batches(len(texts), _CHUNK_SIZE)
        )
        valid = np.concatenate([valid for _, valid in chunks])[codes]
        if not valid.all():
            bad = np.flatnonzero(~valid)
            raise InvalidSmilesError(bad.tolist(), array[bad].tolist())
        parts = [features for features, _ in chunks]
        if sparse.issparse(parts[0]):
            return sparse.vstack(parts, format="csr"), codes
        return np.concatenate(parts), codes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _featurize_texts(transformer, texts):
    """Features of a chunk, None if one of its texts is not a molecule; which are."""
    mols = [parse_smiles(text) for text in texts]
    valid = np.array([mol is not None for mol in mols])
    return (transformer._featurize(mols) if valid.all() else None), valid


class FingerprintTransformer(SmilesTransformer):
    """Base of the fingerprints, which learn nothing.

    A subclass has the parameters `count`, `fp_size`, `sparse_output` and `n_jobs`, and
    ``_fingerprint_function()``, which refuses parameters that do not go together and
    returns the function from a molecule to RDKit's fingerprint of it.
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the parameters and X; there is nothing to learn.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            The transformer.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        """
        self._fingerprint_function()
        check_smiles(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Compute the fingerprints, reading each SMILES once.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        fingerprints : ndarray or sparse matrix of shape (n_samples, n_bits)
            See :meth:`transform`.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        """
        return self._fingerprints(X)

    def transform(self, X):
        """Compute the fingerprints; `fit` need not have been called.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.

        Returns
        -------
        fingerprints : ndarray or sparse matrix of shape (n_samples, n_bits)
            Bits as uint8 or counts as uint32. A sparse one is a CSR matrix, or array
            under ``sklearn.set_config(sparse_interface="sparray")``.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        """
        return self._fingerprints(X)

    def _fingerprints(self, X):
        self._fingerprint_function()
        features, codes = self._distinct_features(X)
        if self.sparse_output and get_config()["sparse_interface"] == "spmatrix":
            features = sparse.csr_matrix(features)
        return features[codes]

    def _featurize(self, mols):
        function = self._fingerprint_function()
        fingerprints = [function(mol) for mol in mols]
        if self.count:
            counts = [fp.GetNonzeroElements() for fp in fingerprints]
            bits = [list(c) for c in counts]
            data = np.array([n for c in counts for n in c.values()], dtype=np.uint32)
        else:
            bits = [list(fp.GetOnBits()) for fp in fingerprints]
            data = np.ones(sum(map(len, bits)), dtype=np.uint8)
        indices = np.fromiter(chain.from_iterable(bits), dtype=np.int32)
        indptr = np.cumsum([0, *map(len, bits)], dtype=np.int32)
        rows = sparse.csr_array(
            (data, indices, indptr), shape=(len(mols), self._n_features_out)
        )
        rows.sort_indices()
        return rows if self.sparse_output else rows.toarray()

    @property
    def _n_features_out(self):
        return self.fp_size

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
