"""ContrastiveLoss: squared distances of pairs, as in a siamese network."""

from numbers import Real

import torch
from torch import Tensor, nn

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._terms import ANCHORS, triplet_distances

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(nn.Module):
    r"""Siamese loss: pull matching pairs together, push others beyond a margin.

    Parameters
    ----------
    margin : float, default=5.0
        Euclidean distance :math:`m \ge 0` beyond which a pair that does not match is
        left alone.
    anchor : {"expression", "molecule", "expression_only"}, default="expression"
        Which two pairs a triplet gives: :math:`(g_A, m_A), (g_A, m_B)` for
        "expression", :math:`(g_A, m_A), (g_B, m_A)` for "molecule" and
        :math:`(g_A, g_A'), (g_A, g_B)` for "expression_only", which leaves the
        molecules untrained.

    Notes
    -----
    With :math:`y = 1` for pairs that match, else 0, averaged over all pairs, half of
    which match (Hadsell et al. 2006, equation 4, with their Y = 1 - y):

    .. math:: L = \frac{1}{N} \sum \tfrac12 \big[ y D^2 + (1 - y) (m - D)_+^2 \big]

    The paper does not report this loss. Margin 5, and matching with probability 1/2,
    are those of its authors' earlier code, which compared profiles only.

    References
    ----------
    R. Hadsell, S. Chopra and Y. LeCun, "Dimensionality reduction by learning an
    invariant mapping", CVPR 2006.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import ContrastiveLoss
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.tensor([[0.0, 0.0], [2.0, 0.0]]),
    ...     profiles=torch.tensor([[0.0, 1.5], [2.0, 0.0]]),
    ...     molecule_index=torch.tensor([0, 1]),
    ...     molecule_drugs=torch.tensor([0, 1]),
    ...     inputs=torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    ... )

    The matching distances are 1.5 and 0; the others, 2.5 and 2, are beyond 1.

    >>> ContrastiveLoss(margin=1.0)(batch)
    tensor(0.2812)
    """

    @validate_params(
        {
            "margin": [Interval(Real, 0, None, closed="left")],
            "anchor": [StrOptions(ANCHORS)],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(self, *, margin: float = 5.0, anchor: str = "expression"):
        super().__init__()
        self.margin = margin
        self.anchor = anchor

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        positive, negative = triplet_distances(batch, self.anchor, "euclidean")
        terms = positive**2 + torch.relu(self.margin - negative) ** 2
        return terms.mean() / 4
