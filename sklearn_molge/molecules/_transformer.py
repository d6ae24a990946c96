"""SmilesTransformer: what every transformer of SMILES shares."""

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules._smiles import parse_smiles

__all__ = ["SmilesTransformer"]

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
        array, texts, codes = self._distinct_texts(X)
        chunks = Parallel(n_jobs=self.n_jobs)(
            delayed(_featurize_texts)(self, texts[rows])
            for rows in gen_batches(len(texts), _CHUNK_SIZE)
        )
        valid = np.concatenate([valid for _, valid in chunks])
        if not valid.all():
            bad = np.flatnonzero(~valid[codes])
            raise InvalidSmilesError(bad.tolist(), array[bad].tolist())
        parts = [features for features, _ in chunks]
        if sparse.issparse(parts[0]):
            return sparse.vstack(parts, format="csr"), codes
        return np.concatenate(parts), codes

    def _distinct_texts(self, X):
        """Entries of X, the distinct ones, and which of these each entry is."""
        array = as_smiles_array(X)
        if len(array) == 0:
            raise ValueError(
                "Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is "
                f"required by {type(self).__name__}."
            )
        codes, texts = pd.factorize(array, use_na_sentinel=False)
        return array, texts, codes

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
