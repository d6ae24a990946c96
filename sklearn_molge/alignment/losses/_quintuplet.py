"""QuintupletLoss: the quadruplet and a second profile of the drug."""

from torch import Tensor

from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._quadruplet import QuadrupletLoss
from sklearn_molge.alignment.losses._terms import triplet_distances

__all__ = ["QuintupletLoss"]


class QuintupletLoss(QuadrupletLoss):
    r"""Quadruplet loss that also pulls two profiles of one drug together.

    Parameters
    ----------
    margin : float, default=0.1
        Half-width :math:`\alpha \ge 0` of the band about `beta`.
    beta : float, default=1.0
        Boundary between matching and other pairs, greater than 0.
    learn_beta : bool, default=False
        Whether `beta` is a parameter of the training, of which it is then the start.
    variant : {"code", "paper"}, default="code"
        Which quadruplet loss; see :class:`QuadrupletLoss`.
    distance : {"euclidean", "cosine"}, default="euclidean"
        Distance; "cosine" is 1 minus the cosine, from 0 to 2.
    average : {"active", "mean"}, default="mean"
        Divide by the number of triplets with at least one positive term, or by the
        number of triplets. Without an active triplet the loss and its gradient are 0.

    See Also
    --------
    QuadrupletLoss, TripletLoss : The two parts.

    Notes
    -----
    .. math:: L = L_\text{quadruplet} + L_\text{triplet}(g_A; g_A', g_B)

    with :math:`g_A'` another profile of the anchor's drug and :math:`g_B` the negative
    profile; the released code prefers :math:`g_A'` from another cell line, which is for
    the sampler of the batch to do. Where the drug has one profile, :math:`g_A' = g_A`.
    The paper names this loss (Section 3.3) and gives no formula.

    References
    ----------
    Finlayson et al. 2020, "Cross-modal representation alignment of molecular structure
    and perturbation-induced transcriptional profiles", Section 3.3.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import QuintupletLoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[0.0, 0.0], [2.0, 0.0]]),
    ...     profiles=torch.tensor([[0.0, 0.0], [0.0, 1.5], [2.0, 0.0]]),
    ...     molecule_index=torch.tensor([0, 0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.eye(3),
    ... )

    The first two profiles are 1.5 apart, and the second is so from its molecule.

    >>> QuintupletLoss()(batch)
    tensor(0.6000)
    """

    needs_partners = True

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        positive, negative = triplet_distances(batch, "expression_only", self.distance)
        triplet = self.average_terms(self.pull(positive), self.push(negative))
        return super().forward(batch) + triplet
