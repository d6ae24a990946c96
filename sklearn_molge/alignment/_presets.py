"""PRESETS: settings of CoordinatedEmbedder, as keyword dictionaries."""

from typing import Any

import numpy as np
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from torch.optim import Adam, AdamW

from sklearn_molge.alignment.losses import InfoNCELoss, QuadrupletLoss
from sklearn_molge.alignment.samplers import (
    DistanceWeightedSampler,
    DrugBalancedSampler,
)
from sklearn_molge.molecules import (
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
)

__all__ = ["PRESETS"]


def _counts(fingerprinter: Any) -> Any:
    """Return counts on a log scale, each molecule of unit length."""
    log = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    return make_pipeline(fingerprinter, log, Normalizer())


def _six_kinds_of_features() -> FeatureUnion:
    return FeatureUnion(
        [
            ("ecfp", _counts(MorganFingerprinter(2, count=True))),
            ("fcfp", _counts(MorganFingerprinter(count=True, feature_invariants=True))),
            ("atom_pair", _counts(MoleculeFingerprinter("atom_pair", count=True))),
            ("torsion", _counts(MoleculeFingerprinter("torsion", count=True))),
            ("maccs", make_pipeline(MoleculeFingerprinter("maccs"), Normalizer())),
            ("descriptors", make_pipeline(MoleculeDescriptors(), Normalizer())),
        ]
    )


# Table A2 of the paper, read together with its code: two hidden layers without bias,
# torch's initial weights, RDKit's descriptors joined to the graph vector.
_PAPER: dict[str, Any] = {
    "encoder": "random",
    "molecule_features": MoleculeDescriptors(),
    "criterion": QuadrupletLoss,
    "criterion__margin": 0.31,
    "criterion__beta": 1.3,
    "criterion__average": "active",
    "sampler": DistanceWeightedSampler,
    "module__embedding_size": 51,
    "module__expression_layers": (677, 1159),
    "module__dropout": 0.02,
    "module__bias": False,
    "module__init": "torch",
    "module__scaling": "column",
    "module__normalize": False,
    "optimizer": Adam,
    "lr": 5.6e-4,
    "max_epochs": 12,
    "batch_size": 417,
    "metric": "correlation",
}

_RECOMMENDED: dict[str, Any] = {
    "encoder": None,
    "molecule_features": _six_kinds_of_features(),
    "criterion": InfoNCELoss,
    "criterion__temperature": 0.2,
    "sampler": DrugBalancedSampler,
    "module__start": "cca",
    "module__embedding_size": 100,
    "module__expression_layers": (512,),
    "module__head_layers": (512,),
    "module__dropout": 0.1,
    "module__head_dropout": 0.2,
    "module__input_dropout": 0.3,
    "module__head_input_dropout": 0.3,
    "module__unit_profiles": True,
    "optimizer": AdamW,
    "lr": 3e-5,
    "max_epochs": 5,
    "metric": "correlation",
}

PRESETS: dict[str, dict[str, Any]] = {"paper": _PAPER, "recommended": _RECOMMENDED}
"""Settings of :class:`CoordinatedEmbedder` by name.

- "paper": the final model of Finlayson et al. 2020 (Table A2), for standardised
  profiles such as those of :class:`~sklearn_molge.expression.L1000Featurizer`. Theirs
  starts from a pretrained D-MPNN: set `encoder` to a file.
- "recommended": what ranked best on real Level 5 data; docs/benchmarks.md has the
  numbers.

Examples
--------
>>> from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder
>>> embedder = CoordinatedEmbedder(**PRESETS["recommended"], random_state=0)
>>> CoordinatedEmbedder(**PRESETS["paper"] | {"encoder": "admet-ai"}).max_epochs
12
"""
