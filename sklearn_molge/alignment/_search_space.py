"""Spaces to search for settings of CoordinatedEmbedder."""

from collections.abc import Sequence
from math import log
from os import PathLike

from hyperopt import hp, pyll

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge.alignment.losses import (
    QuadrupletLoss,
    QuintupletLoss,
    TripletLoss,
)

# Fixed values, expressions of hyperopt, and choices of such dictionaries.
Expressions = dict[str, object]

__all__ = ["finlayson2020_search_space", "recommended_search_space"]

_NARROWEST = 4
# Share of 0, 1, 2, ... hidden layers. Rounding a uniform number halves the ends.
_EVEN = [0.125, 0.25, 0.25, 0.25, 0.125]
_DEPTHS: dict[str, dict[str, list[float]]] = {
    "used": {"expression": [0, 0.25, 0.5, 0.25], "head": [0.67, 0.165, 0.165]},
    "committed": {"expression": _EVEN, "head": _EVEN},
}


@validate_params(
    {
        "variant": [StrOptions({"used", "committed"})],
        "encoders": ["array-like"],
        "prefix": [str],
    },
    prefer_skip_nested_validation=True,
)
def finlayson2020_search_space(
    *,
    variant: str = "used",
    encoders: Sequence[str | PathLike] = ("random",),
    prefix: str = "",
) -> Expressions:
    r"""Return the search space of Finlayson et al. 2020.

    For ``CoordinatedEmbedder(**PRESETS["paper"])``, which has what is not searched:
    the sampler, Adam, molecule descriptors.

    Parameters
    ----------
    variant : {"used", "committed"}, default="used"
        "used" is what the points drawn for the published search look like;
        "committed" is the file of their code repository. See Notes.
    encoders : sequence, default=("random",)
        Graph networks to choose from, each as likely: "random", and files of
        pretrained ones. The authors chose between an optimised and an unoptimised one.
    prefix : str, default=""
        Goes before each parameter's name, for an embedder inside a Pipeline:
        ``"transformedtargetretriever__retriever__"``.

    Returns
    -------
    space : dict of str to hyperopt expression
        The `param_distributions` of
        :class:`~sklearn_molge.model_selection.HyperoptSearchCV`.

    See Also
    --------
    recommended_search_space : Smaller, for what ranks best today.

    Notes
    -----
    =================  =============================  ================================
    parameter          committed                      used
    =================  =============================  ================================
    loss               three, equally likely          quadruplet 50 %, other two 25 %
    anchor (triplet)   profile, molecule, profiles    profile, molecule
    negatives' space   left alone                     expression, structure
    epochs             10 to 30                       5 to 30
    batch size         16 to 512                      the same
    learning rate      lognormal(-7, 0.5)             lognormal(log 2e-4, 0.5)
    margin, beta       left alone                     U(0, 2), U(0.7, 2)
    metric             euclidean, correlation         euclidean 73 %
    expression depth   0 to 4                         1 to 3
    head depth         0 to 4                         0: 67 %, 1 and 2
    width              32 to 2048                     the same
    growth             log-uniform, e^-1.1 to e^1.1   the same
    embedding size     32 to 512                      the same
    dropout            U(0, 0.5)                      the same
    activation         sigmoid, tanh, relu, selu      selu 58 %, others 14 % each
    bias               yes, no                        the same
    =================  =============================  ================================

    "used" was read off histograms of 1,000 points, so that its shares are approximate;
    the spread of its learning rate is that of the committed file. Layer i is
    :math:`\max(\lfloor \text{width} \cdot \text{growth}^i \rfloor, 4)` wide: four
    layers may reach 55,000 units and 10^9 weights.

    The authors also searched over ranks instead of values of the profiles, which is
    the transformer's to do, and had one anchor for all losses, where only the triplet
    loss has a choice.

    References
    ----------
    Finlayson et al. 2020, "Cross-modal representation alignment of molecular structure
    and perturbation-induced transcriptional profiles", Table A2 has what they chose.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperopt.pyll.stochastic import sample
    >>> from sklearn_molge.alignment import finlayson2020_search_space
    >>> space = finlayson2020_search_space()
    >>> point = sample(space, rng=np.random.default_rng(0))
    >>> point["loss"]["criterion"].__name__, point["max_epochs"]
    ('TripletLoss', 25)
    """
    used = variant == "used"
    space = _Space(prefix)
    dropout = hp.uniform(space.label("dropout"), 0, 0.5)
    others = 0.14 if used else 0.25
    activations = {"selu": 1 - 3 * others, "relu": others, "tanh": others}
    share = 0.73 if used else 0.5
    metrics = {"euclidean": share, "correlation": 1 - share}
    entries = {
        "loss": _margin_losses(space, used),
        **_layers(space, "expression", _DEPTHS[variant]["expression"]),
        **_layers(space, "head", _DEPTHS[variant]["head"]),
        **space.params(
            encoder=hp.choice(space.label("encoder"), list(encoders)),
            max_epochs=hp.uniformint(space.label("epochs"), 5 if used else 10, 30),
            batch_size=hp.uniformint(space.label("batch_size"), 16, 512),
            lr=hp.lognormal(space.label("lr"), log(2e-4) if used else -7, 0.5),
            metric=space.shares("metric", metrics),
            module__embedding_size=hp.uniformint(
                space.label("embedding_size"), 32, 512
            ),
            module__dropout=dropout,
            module__head_dropout=dropout,
            module__activation=space.shares(
                "activation", activations | {"sigmoid": others}
            ),
            module__bias=hp.choice(space.label("bias"), [False, True]),
        ),
    }
    if used:
        distances = ["expression", "structure"]
        entries |= space.params(
            criterion__margin=hp.uniform(space.label("margin"), 0, 2),
            criterion__beta=hp.uniform(space.label("beta"), 0.7, 2),
            sampler__distance=hp.choice(space.label("distance"), distances),
        )
    return entries


@validate_params(
    {"tower": [StrOptions({"features", "graph"})], "prefix": [str]},
    prefer_skip_nested_validation=True,
)
def recommended_search_space(
    *, tower: str = "features", prefix: str = ""
) -> Expressions:
    """Return a space about ``PRESETS["recommended"]``, for some 30 trials.

    For ``CoordinatedEmbedder(**PRESETS["recommended"])``: InfoNCE towers, which start
    at CCA and move little, or at random weights and train longer.

    Parameters
    ----------
    tower : {"features", "graph"}, default="features"
        The molecule tower: features only, or a graph network trained from random
        weights with the features joined. That is slower by an order of magnitude.
    prefix : str, default=""
        Goes before each parameter's name; see :func:`finlayson2020_search_space`.

    Returns
    -------
    space : dict of str to hyperopt expression
        The `param_distributions` of
        :class:`~sklearn_molge.model_selection.HyperoptSearchCV`.

    Notes
    -----
    Nine parameters, twelve with a graph: start; learning rate and epochs, from ranges
    of their own for each start; temperature of the loss; embedding size; width of the
    hidden layers; dropout of hidden units and of inputs, each shared by both towers;
    activation.

    Examples
    --------
    >>> import numpy as np
    >>> from hyperopt.pyll.stochastic import sample
    >>> from sklearn_molge.alignment import recommended_search_space
    >>> point = sample(recommended_search_space(), rng=np.random.default_rng(0))
    >>> sorted(point["start"])
    ['lr', 'max_epochs', 'module__start']
    """
    space = _Space(prefix)
    dropout = hp.uniform(space.label("dropout"), 0, 0.5)
    input_dropout = hp.uniform(space.label("input_dropout"), 0, 0.5)
    layers = hp.choice(space.label("layers"), [(), (256,), (512,), (1024,)])
    entries = {
        "start": hp.choice(
            space.label("start"),
            [
                _start(space, "cca", 1e-6, 3e-4, 10),
                _start(space, "random", 1e-4, 3e-3, 40),
            ],
        ),
        **space.params(
            criterion__temperature=hp.loguniform(
                space.label("temperature"), log(0.03), log(1.0)
            ),
            module__embedding_size=hp.choice(
                space.label("embedding_size"), [50, 100, 200]
            ),
            module__expression_layers=layers,
            module__head_layers=layers,
            module__dropout=dropout,
            module__head_dropout=dropout,
            module__input_dropout=input_dropout,
            module__head_input_dropout=input_dropout,
            module__activation=hp.choice(space.label("activation"), ["selu", "relu"]),
        ),
    }
    if tower == "graph":
        entries |= space.params(
            encoder="random",
            encoder__hidden_size=hp.choice(space.label("hidden_size"), [100, 200, 300]),
            encoder__depth=hp.uniformint(space.label("graph_depth"), 2, 4),
            encoder__dropout=hp.uniform(space.label("graph_dropout"), 0, 0.3),
        )
    return entries


class _Space:
    """Labels and names of parameters, with a prefix."""

    def __init__(self, prefix: str):
        self.prefix = prefix

    def label(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def params(self, **params) -> Expressions:
        return {f"{self.prefix}{name}": value for name, value in params.items()}

    def shares(self, name: str, shares: dict[str, float]) -> pyll.Apply:
        options = [(share, option) for option, share in shares.items()]
        return hp.pchoice(self.label(name), options)


def _margin_losses(space: _Space, used: bool) -> pyll.Apply:
    """Return the choice of a loss, with the anchor that only the triplet loss has."""
    alone = space.params(sampler__partners=False)
    partners = space.params(sampler__partners=True)
    anchors = [
        space.params(criterion__anchor="expression") | alone,
        space.params(criterion__anchor="molecule") | alone,
        space.params(criterion__anchor="expression_only") | partners,
    ]
    anchor = hp.choice(space.label("anchor"), anchors[:2] if used else anchors)
    options = [
        space.params(criterion=TripletLoss) | {"anchor": anchor},
        space.params(criterion=QuadrupletLoss) | alone,
        space.params(criterion=QuintupletLoss) | partners,
    ]
    shares = [0.25, 0.5, 0.25] if used else [1 / 3] * 3
    return hp.pchoice(space.label("loss"), list(zip(shares, options, strict=True)))


def _layers(space: _Space, tower: str, shares: list[float]) -> dict[str, pyll.Apply]:
    """Return the widths of a tower's hidden layers, from a depth, a width, a growth."""
    width = hp.uniformint(space.label(f"{tower}_width"), 32, 2048)
    growth = hp.loguniform(space.label(f"{tower}_growth"), -1.1, 1.1)
    widths = [(), (width,), *[(width, growth)] * (len(shares) - 2)]
    options = [
        (share, pyll.scope.call(_layer_widths, (depth, *widths[depth])))
        for depth, share in enumerate(shares)
        if share > 0
    ]
    layers = hp.pchoice(space.label(f"{tower}_depth"), options)
    return space.params(**{f"module__{tower}_layers": layers})


def _layer_widths(depth: int, width: float = 0, growth: float = 1.0) -> tuple[int, ...]:
    """Widths of `depth` layers: the first one, each next `growth` times as wide.

    As in the paper's search (``hyperparameter_search.py``): rounded down, no layer
    narrower than 4.
    """
    return tuple(max(int(width * growth**i), _NARROWEST) for i in range(depth))


def _start(
    space: _Space, start: str, low: float, high: float, most_epochs: int
) -> Expressions:
    """Return a start of the weights, with a rate and a length that suit it."""
    return space.params(
        module__start=start,
        lr=hp.loguniform(space.label(f"lr_{start}"), log(low), log(high)),
        max_epochs=hp.uniformint(space.label(f"epochs_{start}"), 2, most_epochs),
    )
