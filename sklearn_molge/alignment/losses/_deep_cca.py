"""DeepCCALoss: canonical correlations between the two embeddings of a batch."""

from numbers import Integral, Real

import torch
from torch import Tensor, nn
from torch.linalg import cholesky, solve_triangular, svdvals

from sklearn_molge._compat import Interval, validate_params
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._terms import refuse_single_drug

__all__ = ["CCA_CONSTRAINTS", "DeepCCALoss"]

CCA_CONSTRAINTS = {
    "ridge": [Interval(Real, 0, None, closed="neither")],
    "n_components": [Interval(Integral, 1, None, closed="left"), None],
}


class DeepCCALoss(nn.Module):
    r"""Minus the sum of the canonical correlations of profiles and their molecules.

    Parameters
    ----------
    ridge : float, default=1e-4
        Added to every variance of both embeddings, greater than 0.
    n_components : int or None, default=None
        How many of the largest correlations are summed; None sums all.

    See Also
    --------
    sklearn_molge.alignment.CCA : Of fixed features, in closed form.

    Notes
    -----
    With H the centred embeddings of the n profiles and M those of the molecule of each
    (Andrew et al. 2013, Section 3):

    .. math:: S_{11} = \tfrac{1}{n-1} H^\top H + r I, \quad
        S_{22} = \tfrac{1}{n-1} M^\top M + r I, \quad
        S_{12} = \tfrac{1}{n-1} H^\top M

    .. math:: L = - \lVert T \rVert_*, \qquad T = S_{11}^{-1/2} S_{12} S_{22}^{-1/2}

    the sum of the singular values of T, or of its `n_components` largest; it lies
    between minus the dimension of the joint space and 0. They are those of
    :math:`L_1^{-1} S_{12} L_2^{-\top}` too, with Cholesky factors L, computed in double
    precision whatever the embeddings have. A batch with few more profiles than
    dimensions correlates perfectly by chance: it should be several times larger. In
    the code released with Finlayson et al. 2020 an indexing error keeps one eigenvector
    of each covariance, that of the smallest eigenvalue; this is the loss they meant but
    for the norm, where they take the Frobenius norm of T.

    References
    ----------
    G. Andrew et al., "Deep canonical correlation analysis", ICML 2013.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> from sklearn_molge.alignment.losses import DeepCCALoss
    >>> molecules = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    >>> batch = EmbeddedBatch(
    ...     molecules=molecules,
    ...     profiles=molecules @ torch.tensor([[0.0, 3.0], [2.0, 1.0]]),
    ...     molecule_index=torch.arange(4),
    ...     molecule_drugs=torch.arange(4),
    ...     inputs=torch.eye(4),
    ... )

    The profiles are a linear map of the molecules: both correlations are 1.

    >>> DeepCCALoss(ridge=1e-8)(batch)
    tensor(-2.)
    """

    @validate_params(CCA_CONSTRAINTS, prefer_skip_nested_validation=True)
    def __init__(self, *, ridge: float = 1e-4, n_components: int | None = None):
        super().__init__()
        self.ridge = ridge
        self.n_components = n_components

    def forward(self, batch: EmbeddedBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        refuse_single_drug(batch)
        dimension = batch.profiles.shape[1]
        if self.n_components is not None and self.n_components > dimension:
            raise ValueError(
                f"n_components must be at most {dimension}, the dimension of the "
                f"embeddings. Got {self.n_components}."
            )
        x = batch.profiles.double()
        y = batch.molecules.double()[batch.molecule_index]
        x, y = x - x.mean(0), y - y.mean(0)
        left = solve_triangular(self._root(x), x.T @ y / (len(x) - 1), upper=False)
        matrix = solve_triangular(self._root(y), left.T, upper=False)
        correlations = svdvals(matrix)[: self.n_components]
        return -correlations.sum().to(batch.profiles.dtype)

    def _root(self, centred: Tensor) -> Tensor:
        ridge = self.ridge * torch.eye(
            centred.shape[1], dtype=centred.dtype, device=centred.device
        )
        return cholesky(centred.T @ centred / (len(centred) - 1) + ridge)
