"""ChempropEmbedder: fingerprints of molecules from a D-MPNN."""

from copy import deepcopy
from numbers import Integral
from os import PathLike

import numpy as np
import torch
from sklearn.utils import check_random_state, gen_batches
from torch import nn

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge._utils.device import forward_size, resolve_device
from sklearn_molge.molecules._dmpnn import AGGREGATIONS
from sklearn_molge.molecules._encoders import load_encoder
from sklearn_molge.molecules._graphs import MoleculeGraphs
from sklearn_molge.molecules._smiles import check_smiles
from sklearn_molge.molecules._transformer import SmilesTransformer

__all__ = ["ChempropEmbedder"]


class ChempropEmbedder(SmilesTransformer):
    """Fingerprints of molecules from a frozen D-MPNN, pretrained or random.

    `fit` loads the network and learns nothing; `transform` runs it, once per distinct
    SMILES and call. To train the network on profiles, use ``CoordinatedEmbedder``.

    Parameters
    ----------
    encoder : str, PathLike or torch.nn.Module, default="random"
        The network:

        - "random": untrained weights, drawn by `random_state`.
        - A path: a checkpoint of chemprop v2 (``.pt``, ``.ckpt``) or v1 (through
          chemprop's converter), or a file of CheMeleon. No code in it is run.
        - "admet-ai": the first classification network of the installed package
          admet-ai, trained on 31 ADMET tasks (``pip install
          "sklearn-molge[pretrained]"``).
        - A module: of chemprop (``MPNN``, whose predictor is left out, or
          ``BondMessagePassing``), or any that maps a batch of graphs to a tensor of
          shape (n_molecules, n_features). An attribute `mode` of it names the atom
          features that it needs: "V2" (the default), "V1", "ORGANIC" or "RIGR".

        If it cannot be loaded, `fit` raises FileNotFoundError, ImportError or
        ValueError.
    hidden_size : int, default=300
        Width of the random network, and number of features.
    depth : int, default=3
        Number of message-passing layers of the random network.
    aggregation : {"mean", "sum", "norm"}, default="mean"
        How atom vectors become a molecule's vector: their mean, sum, or sum divided by
        100. For the random network, and for a file of message passing alone
        (CheMeleon); other files name theirs.
    batch_size : int, default=256
        Largest number of molecules to run through the network at once; a CPU takes
        fewer, to fit its cache. It changes the result by rounding only.
    device : str, default="auto"
        Where the network runs, by torch's name; "auto" is "cuda" if there is a GPU, and
        "cpu" otherwise. The fitted network itself stays on the CPU.
    n_jobs : int or None, default=None
        Number of processes that compute the graphs; None is 1 unless
        ``joblib.parallel_config`` says otherwise, -1 takes all cores. The result does
        not depend on it.
    on_bad_smiles : {"raise", "nan"}, default="raise"
        What becomes of entries that are no molecules: "raise" names them all in an
        error; "nan" gives them rows of NaN, in float32, and counts them in an
        :class:`~sklearn_molge.exceptions.InvalidSmilesWarning`.
    random_state : int, RandomState instance or None, default=None
        Draws the weights of the random network, without touching torch's global
        generator.

    Attributes
    ----------
    encoder_ : torch.nn.Module
        The network, in evaluation mode.
    mode_ : str
        The atom features that it needs, by chemprop's name.
    n_features_out_ : int
        Number of features.

    See Also
    --------
    MorganFingerprinter : Circular fingerprints.

    Notes
    -----
    The features of a pretrained network may have a small spread, 0.07 with "admet-ai":
    add a ``StandardScaler`` to the pipeline.

    The paper (Finlayson et al. 2020, table 1) compares with "pretrained" chemprop
    fingerprints. Its released code most likely never loaded the weights: that baseline
    is ``encoder="random"``.

    References
    ----------
    K. Yang et al., "Analyzing Learned Molecular Representations for Property
    Prediction", Journal of Chemical Information and Modeling 59 (2019).

    Examples
    --------
    >>> from sklearn_molge.molecules import ChempropEmbedder
    >>> embedder = ChempropEmbedder(hidden_size=16, random_state=0)
    >>> features = embedder.fit_transform(["CCO", "OCC", "c1ccccc1"])
    >>> features.shape, features.dtype
    ((3, 16), dtype('float32'))
    >>> embedder.get_feature_names_out()[:2]
    array(['chempropembedder0', 'chempropembedder1'], dtype=object)
    """

    _parameter_constraints: dict = {
        "encoder": [str, PathLike, nn.Module],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
        "aggregation": [StrOptions(set(AGGREGATIONS))],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "n_jobs": [Integral, None],
        "on_bad_smiles": [StrOptions({"raise", "nan"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        encoder="random",
        *,
        hidden_size=300,
        depth=3,
        aggregation="mean",
        batch_size=256,
        device="auto",
        n_jobs=None,
        on_bad_smiles="raise",
        random_state=None,
    ):
        self.encoder = encoder
        self.hidden_size = hidden_size
        self.depth = depth
        self.aggregation = aggregation
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.on_bad_smiles = on_bad_smiles
        self.random_state = random_state

    def _fit(self, texts):
        check_smiles(texts)
        resolve_device(self.device)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            encoder, self.mode_ = load_encoder(
                self.encoder,
                hidden_size=self.hidden_size,
                depth=self.depth,
                aggregation=self.aggregation,
            )
        self.encoder_ = encoder.cpu().eval()
        first = MoleculeGraphs.from_smiles(texts[:1], mode=self.mode_)
        self.n_features_out_ = self._embed(first).shape[1]

    def _transform(self, texts):
        graphs = MoleculeGraphs.from_smiles(texts, n_jobs=self.n_jobs, mode=self.mode_)
        return self._embed(graphs)

    def _embed(self, graphs):
        device = resolve_device(self.device)
        # On a GPU a copy runs, so that the estimator can be unpickled without one.
        on_cpu = device.type == "cpu"
        encoder = self.encoder_ if on_cpu else deepcopy(self.encoder_).to(device)
        parts = []
        with torch.inference_mode():
            for rows in gen_batches(len(graphs), forward_size(self.batch_size, device)):
                batch = graphs.take(range(rows.start, rows.stop)).to(device)
                vectors = encoder(batch)
                _check_vectors(vectors, len(batch))
                parts.append(vectors.float().cpu().numpy())
        return np.concatenate(parts)

    @property
    def _n_features_out(self):
        return self.n_features_out_


def _check_vectors(vectors, n_molecules):
    is_tensor = isinstance(vectors, torch.Tensor)
    if is_tensor and vectors.ndim == 2 and len(vectors) == n_molecules:
        return
    shape = f" of shape {tuple(vectors.shape)}" if is_tensor else ""
    raise ValueError(
        f"encoder must map a batch of {n_molecules} molecules to a tensor of shape "
        f"({n_molecules}, n_features). Got a {type(vectors).__name__}{shape}."
    )
