"""How many genes a drug changes: the strength and specificity of its profile."""

from collections.abc import Iterator
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats
from sklearn.utils import check_array

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.rows import group_means
from sklearn_molge.datasets import Study
from sklearn_molge.exceptions import MissingControlError

__all__ = ["differential_genes"]

Floats = NDArray[np.float64]


@validate_params(
    {
        "study": [Study],
        "test": [StrOptions({"auto", "moderated_t", "z_score"})],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "threshold": [Interval(Real, 0, None, closed="neither")],
        "min_log_fold_change": [Interval(Real, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def differential_genes(
    study: Study,
    *,
    test: str = "auto",
    alpha: float = 0.05,
    threshold: float = 2.0,
    min_log_fold_change: float = 0.0,
) -> pd.DataFrame:
    r"""Count the genes that each drug changes in each cell line.

    Parameters
    ----------
    study : Study
        Profiles; with the controls of their plates for "moderated_t".
    test : {"auto", "moderated_t", "z_score"}, default="auto"
        "moderated_t" compares the treated wells (Level 3, log2 intensity) with the
        controls of their plates. "z_score" counts the genes beyond `threshold` in
        each profile (Levels 4 and 5) and takes the mean over the profiles. "auto"
        goes by ``study.level``.
    alpha : float, default=0.05
        Largest false discovery rate of "moderated_t", over the genes of one drug and
        line (Benjamini and Hochberg).
    threshold : float, default=2.0
        Smallest absolute z-score of "z_score".
    min_log_fold_change : float, default=0.0
        Smallest absolute log2 fold change of "moderated_t".

    Returns
    -------
    counts : DataFrame
        One row per drug and cell line, sorted: ``drug``, ``cell_line``, ``n_profiles``,
        ``n_genes_up``, ``n_genes_down`` and their sum ``n_genes``.

    Raises
    ------
    ValueError
        If `study` has no level for "auto", is not of the level of `test`, lacks
        controls or plates, or leaves no degree of freedom.
    MissingControlError
        If a plate with treated wells has no control of the cell line.

    See Also
    --------
    SpecificityDisplay : Do ranks depend on the number of genes?

    Notes
    -----
    The moderated t-test is limma's (Smyth 2004), drug by drug: the wells of the drug
    in one line and all controls on the plates of that line, with the plate as a
    block. Centring both on the mean of the plate's controls, the effect is
    :math:`\hat\beta = \sum_p w_p d_p / \sum_p w_p`, where :math:`d_p` is the mean of
    the drug's :math:`m_p` wells on plate p and :math:`w_p = n_p m_p / (n_p + m_p)`
    with :math:`n_p` controls; its variance is :math:`\sigma^2 / \sum_p w_p`. These
    are least squares of ``y ~ plate + drug``. Of the :math:`N` wells, the P plate
    means and the effect are estimated: :math:`N - P - 1` residual degrees of freedom.
    The prior of the variances is fitted over the genes of each drug and line.

    The test behind the paper's gene counts was not published.

    References
    ----------
    G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential
    expression in microarray experiments", Statistical Applications in Genetics and
    Molecular Biology 3 (2004).

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.inspection import differential_genes
    >>> study = make_perturbation_study(
    ...     5, n_cell_lines=2, n_genes=100, doses_um=[10.0], random_state=0
    ... )
    >>> counts = differential_genes(study)
    >>> counts.columns.tolist()
    ['drug', 'cell_line', 'n_profiles', 'n_genes_up', 'n_genes_down', 'n_genes']
    >>> counts.groupby("drug")["n_genes"].mean().shape
    (5,)
    """
    test = _choose_test(study, test)
    ge = check_array(study.ge, dtype=np.float64, input_name="study.ge")
    if test == "z_score":
        counts = _z_score_counts(ge, study.groups, threshold)
    else:
        parts = _moderated_t_counts(study, ge, alpha, min_log_fold_change)
        columns = ["drug", "cell_line", "n_profiles", "n_genes_up", "n_genes_down"]
        counts = pd.DataFrame(parts, columns=columns)
    counts["n_genes"] = counts["n_genes_up"] + counts["n_genes_down"]
    return counts.sort_values(["drug", "cell_line"], ignore_index=True)


def _choose_test(study: Study, test: str) -> str:
    if test == "auto":
        if study.level is None:
            raise ValueError(
                "test='auto' goes by study.level, which is None. Say "
                "test='moderated_t' for log2 intensities with controls, or "
                "test='z_score' for z-scores."
            )
        test = "moderated_t" if study.level == 3 else "z_score"
    if test == "z_score" and study.level == 3:
        raise ValueError(
            "test='z_score' needs z-scores (Level 4 or 5). Got a study of Level 3, "
            "log2 intensities: use test='moderated_t'."
        )
    if test == "moderated_t":
        if study.control_ge is None:
            raise ValueError(
                "test='moderated_t' needs controls, and the study has none."
            )
        if "plate" not in study.obs or study.obs["plate"].isna().any():
            raise ValueError(
                "test='moderated_t' needs the plate of every profile, the column "
                "'plate' of study.obs."
            )
    return test


def _z_score_counts(ge: Floats, groups: NDArray[np.object_], threshold: float):
    counts = pd.DataFrame(groups, columns=["drug", "cell_line"])
    counts["up"] = np.count_nonzero(ge >= threshold, axis=1)
    counts["down"] = np.count_nonzero(ge <= -threshold, axis=1)
    return counts.groupby(["drug", "cell_line"], as_index=False).agg(
        n_profiles=("up", "size"),
        n_genes_up=("up", "mean"),
        n_genes_down=("down", "mean"),
    )


def _moderated_t_counts(
    study: Study, ge: Floats, alpha: float, min_log_fold_change: float
) -> Iterator[tuple[object, ...]]:
    drugs, lines = study.groups.T
    plates = study.obs["plate"].to_numpy(dtype=object)
    controls_of = {
        line: _PlateControls(study, line, pd.unique(plates[lines == line]))
        for line in pd.unique(lines)
    }
    for line, controls in controls_of.items():
        rows = np.flatnonzero(lines == line)
        for drug, of_drug in pd.Series(rows).groupby(drugs[rows]):
            wells = of_drug.to_numpy()
            effects, q_values = controls.test(ge[wells], plates[wells], drug)
            found = (q_values <= alpha) & (np.abs(effects) >= min_log_fold_change)
            up = float(np.count_nonzero(found & (effects > 0)))
            down = float(np.count_nonzero(found & (effects < 0)))
            yield drug, line, len(wells), up, down


class _PlateControls:
    """The controls of one cell line: what every drug in it is compared with."""

    def __init__(self, study: Study, line: str, plates: NDArray[np.object_]):
        assert study.control_ge is not None
        assert study.control_obs is not None
        self.line = line
        of_plate = study.control_obs["plate"].to_numpy(dtype=object)
        own = np.isin(of_plate, plates)
        if "cell_line" in study.control_obs:
            own &= (study.control_obs["cell_line"] == line).to_numpy()
        missing = sorted(set(plates) - set(of_plate[own]))
        if missing:
            raise MissingControlError(missing)
        ge = check_array(
            study.control_ge[own], dtype=np.float64, input_name="study.control_ge"
        )
        codes, names = pd.factorize(of_plate[own])
        self.plates = pd.Index(names)
        self.n_controls = np.bincount(codes)
        self.means = group_means(ge, codes)
        self.squares = np.sum((ge - self.means[codes]) ** 2, axis=0)

    def test(
        self, treated: Floats, plates: NDArray[np.object_], drug: str
    ) -> tuple[Floats, Floats]:
        """Return the effects and the q-values of one drug."""
        codes = self.plates.get_indexer(pd.Index(plates))
        used, codes, n_wells = np.unique(codes, return_inverse=True, return_counts=True)
        change = treated - self.means[used[codes]]
        on_plate = group_means(change, codes)
        n_controls = self.n_controls[used]
        weights = n_controls * n_wells / (n_controls + n_wells)
        effects = weights @ on_plate / weights.sum()
        squares = (
            self.squares
            + np.sum((change - on_plate[codes]) ** 2, axis=0)
            + weights @ (on_plate - effects) ** 2
        )
        df = self.n_controls.sum() + len(treated) - len(self.plates) - 1
        if df < 1:
            raise ValueError(
                f"Drug {drug!r} in cell line {self.line!r}: {len(treated)} treated and "
                f"{self.n_controls.sum()} control well(s) on {len(self.plates)} "
                "plate(s) leave no degree of freedom. test='moderated_t' needs "
                "replicates."
            )
        _, p_values = moderated_t_test(
            effects, squares / df, float(df), unscaled_variance=1 / weights.sum()
        )
        return effects, stats.false_discovery_control(p_values)


def fit_variance_prior(variances: Floats, df: float) -> tuple[float, float]:
    r"""Fit the prior of residual variances by moments: :math:`d_0` and :math:`s_0^2`.

    Under :math:`1 / \sigma_g^2 \sim \chi^2_{d_0} / (d_0 s_0^2)`, with d = `df` and
    :math:`e_g = \log s_g^2 - \psi(d/2) + \log(d/2)` (Smyth 2004, section 6.2),

    .. math:: \psi'(d_0 / 2) = \operatorname{var}(e_g) - \psi'(d/2), \qquad
              s_0^2 = \exp(\bar e + \psi(d_0/2) - \log(d_0/2)).

    Where the variances scatter no more than they would if all genes had the same,
    :math:`d_0` is infinite and :math:`s_0^2` their mean, the maximum of the
    likelihood, as in limma. Variances below 1e-5 of the median are raised to it.
    """
    median = float(np.median(variances))
    if median <= 0:
        raise ValueError(
            "More than half of the genes have a residual variance of 0; the prior of "
            "the variances needs replicates that differ."
        )
    variances = np.maximum(variances, 1e-5 * median)
    half = df / 2
    e = np.log(variances) - special.digamma(half) + np.log(half)
    variance = float(np.var(e, ddof=1)) if len(e) > 1 else 0.0
    excess = variance - float(special.polygamma(1, half))
    if excess <= 0:
        return np.inf, float(np.mean(variances))
    half_prior = trigamma_inverse(excess)
    location = np.mean(e) + special.digamma(half_prior) - np.log(half_prior)
    return 2 * half_prior, float(np.exp(location))


def trigamma_inverse(x: float) -> float:
    """Solve ``trigamma(y) = x`` for y > 0 by Newton's method (Smyth, appendix)."""
    if x > 1e7:
        return x**-0.5
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = special.polygamma(1, y)
        step = trigamma * (1 - trigamma / x) / special.polygamma(2, y)
        y += step
        # 1 / trigamma is convex, so that y grows from a start that is too small.
        if -step / y < 1e-8:
            break
    return float(y)


def moderated_t_test(
    effects: Floats,
    variances: Floats,
    df: float,
    *,
    unscaled_variance: float,
    prior: tuple[float, float] | None = None,
) -> tuple[Floats, Floats]:
    r"""Moderated t of each gene's effect, and its two-sided p-value.

    The effect, whose variance is `unscaled_variance` times that of an observation, over
    :math:`\tilde s_g \sqrt{v}` with
    :math:`\tilde s_g^2 = (d_0 s_0^2 + d s_g^2) / (d_0 + d)` has :math:`d_0 + d` degrees
    of freedom, at most those of all genes together. The prior (:math:`d_0`,
    :math:`s_0^2`) is fitted by default; with :math:`d_0 = 0` this is the t-test.
    """
    prior_df, prior_variance = prior or fit_variance_prior(variances, df)
    weight = 1.0 if np.isinf(prior_df) else prior_df / (prior_df + df)
    shrunken = weight * prior_variance + (1 - weight) * variances
    t = effects / np.sqrt(shrunken * unscaled_variance)
    total = min(prior_df + df, df * len(effects)) if prior_df > 0 else df
    return t, 2 * stats.t.sf(np.abs(t), total)
