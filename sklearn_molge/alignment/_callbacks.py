"""What is recorded after each epoch, beside skorch's own callbacks."""

import numpy as np
from skorch.callbacks import Callback

from sklearn_molge._utils.rows import distinct_rows, group_means
from sklearn_molge.alignment._pairs import rows_of
from sklearn_molge.base import one_row_per_drug
from sklearn_molge.metrics import mean_reciprocal_rank
from sklearn_molge.metrics._ranks import rank_embeddings

_KEYS = ("valid_mrr", "valid_mrr_drug")


class RetrievalScoring(Callback):
    """Record the mean reciprocal rank on the validation part after each epoch.

    The history gets ``valid_mrr`` (each profile is a query) and ``valid_mrr_drug``
    (each drug is, its profiles averaged in the joint space), each with ``..._best``,
    as skorch's EarlyStopping and Checkpoint expect it. Candidates are the drugs of the
    validation part. Without a validation part nothing is recorded.
    """

    def initialize(self):
        """Forget the best scores."""
        self.best_ = dict.fromkeys(_KEYS, -np.inf)
        return self

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Rank the validation profiles and record the scores."""
        if dataset_valid is None:
            return
        scores = validation_mrr(net, dataset_valid)
        for key, score in zip(_KEYS, scores, strict=True):
            net.history.record(key, score)
            net.history.record(f"{key}_best", score > self.best_[key])
            self.best_[key] = max(score, self.best_[key])


def validation_mrr(net, dataset) -> tuple[float, float]:
    """Return the mean reciprocal rank of a part of the rows, by profile and by drug."""
    whole, rows = rows_of(dataset)
    drugs = whole.drugs[rows]
    gallery_drugs, first = one_row_per_drug(
        drugs, distinct_rows(whole.X[rows])[1], None
    )
    match = np.searchsorted(gallery_drugs, drugs)
    gallery = net._embed_molecules(whole.molecules, whole.molecule_of[rows[first]])
    queries = net._embed_profiles(whole.profiles[rows])
    by_profile = rank_embeddings(queries, gallery, match, metric=net.metric)
    means = group_means(queries, match)
    by_drug = rank_embeddings(means, gallery, np.arange(len(first)), metric=net.metric)
    return mean_reciprocal_rank(by_profile), mean_reciprocal_rank(by_drug)
