"""QuadrupletLoss: two matching pairs, pulled together and pushed apart."""

from typing import ClassVar

from torch import Tensor

from sklearn_molge._compat import StrOptions
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._terms import (
    MARGIN_CONSTRAINTS,
    MarginLoss,
    pairwise_distances,
    triplets_of,
)

__all__ = ["QuadrupletLoss"]


class QuadrupletLoss(MarginLoss):
    r"""Margin loss over two matching pairs: the loss of the paper's final model.

    Parameters
    ----------
    margin : float, default=0.1
        Half-width :math:`\alpha \ge 0` of the band about `beta`; 0.31 in the
        paper's final model (Table A2), 0.2 by default in its code.
    beta : float, default=1.0
        Boundary between matching and other pairs, greater than 0; 1.3 in the
        paper's final model, 1.2 by default in its code; for embeddings of unit
        length, whose distances are at most 2, 1 ranked better on real data.
    learn_beta : bool, default=False
        Whether `beta` is a parameter of the training, of which it is then the start.
    variant : {"code", "paper"}, default="code"
        The loss as released, which trained the final model, or as printed; see Notes.
    distance : {"euclidean", "cosine"}, default="euclidean"
        Distance :math:`D`; "cosine" is 1 minus the cosine, from 0 to 2.
    average : {"active", "mean"}, default="mean"
        Divide by the number of quadruplets with at least one positive term, or by the
        number of quadruplets. The paper's code divided by the active ones. Without an
        active one the loss and its gradient are 0.

    See Also
    --------
    TripletLoss : Either half of the code's variant.

    Notes
    -----
    Let :math:`g_A, m_A` be a profile and its molecule, :math:`g_B, m_B` those of
    another drug, and

    .. math:: \text{pull}(x, y) = (D(x, y) - \beta + \alpha)_+ \qquad
        \text{push}(x, y) = (\beta - D(x, y) + \alpha)_+

    The paper (Section 3.3) sums all four pairs:

    .. math:: L_\text{paper} = \frac{1}{N} \sum \text{pull}(g_A, m_A)
        + \text{push}(g_A, m_B) + \text{push}(g_B, m_A) + \text{pull}(g_B, m_B)

    It prints one formula :math:`(\alpha + y (D - \beta))_+` with y = 0 for pairs that
    do not match, which would make their term constant; y = -1 is meant. The released
    code adds a triplet loss from each side, so that the first pair is pulled twice and
    the second not at all, each half with its own number of active triplets:

    .. math:: L_\text{code} = \frac{1}{N_1} \sum \big[ \text{pull}(g_A, m_A)
        + \text{push}(g_A, m_B) \big] + \frac{1}{N_2} \sum \big[ \text{pull}(g_A, m_A)
        + \text{push}(g_B, m_A) \big]

    :class:`TripletLoss` tells how N is counted and where the code differs further.

    References
    ----------
    Finlayson et al. 2020, "Cross-modal representation alignment of molecular structure
    and perturbation-induced transcriptional profiles", Section 3.3.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import QuadrupletLoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[0.0, 0.0], [2.0, 0.0]]),
    ...     profiles=torch.tensor([[0.0, 1.5], [2.0, 0.0]]),
    ...     molecule_index=torch.tensor([0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ... )

    Only the first pair is too far apart, at distance 1.5.

    >>> QuadrupletLoss()(batch)
    tensor(0.6000)
    >>> QuadrupletLoss(variant="paper")(batch)
    tensor(0.6000)
    """

    _parameter_constraints: ClassVar[dict] = MARGIN_CONSTRAINTS | {
        "variant": [StrOptions({"code", "paper"})]
    }

    def __init__(
        self,
        *,
        margin: float = 0.1,
        beta: float = 1.0,
        learn_beta: bool = False,
        variant: str = "code",
        distance: str = "euclidean",
        average: str = "mean",
    ):
        super().__init__(
            margin=margin,
            beta=beta,
            learn_beta=learn_beta,
            distance=distance,
            average=average,
            variant=variant,
        )
        self.variant = variant

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        anchors, negatives, _ = triplets_of(batch)
        cross = pairwise_distances(batch.profiles, batch.molecules, self.distance)
        own, other = batch.molecule_index[anchors], batch.molecule_index[negatives]
        pulled = self.pull(cross[anchors, own])
        pushed_molecule = self.push(cross[anchors, other])
        pushed_profile = self.push(cross[negatives, own])
        if self.variant == "paper":
            second = self.pull(cross[negatives, other])
            return self.average_terms(pulled, pushed_molecule, pushed_profile, second)
        return self.average_terms(pulled, pushed_molecule) + self.average_terms(
            pulled, pushed_profile
        )
