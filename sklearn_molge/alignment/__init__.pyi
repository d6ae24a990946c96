from . import losses as losses
from . import samplers as samplers
from ._batches import EmbeddedBatch as EmbeddedBatch
from ._batches import SampledBatch as SampledBatch
from ._batches import Triplets as Triplets
from ._cca import CCA as CCA
from ._coordinated import CoordinatedEmbedder as CoordinatedEmbedder
from ._fitted_tower import FittedTower as FittedTower
from ._gaussian_process import (
    GaussianProcessRetriever as GaussianProcessRetriever,
)
from ._presets import PRESETS as PRESETS
from ._search_space import finlayson2020_search_space as finlayson2020_search_space
from ._search_space import recommended_search_space as recommended_search_space
from ._two_tower import TwoTower as TwoTower
