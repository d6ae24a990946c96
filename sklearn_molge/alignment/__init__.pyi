from . import losses as losses
from . import samplers as samplers
from ._batches import EmbeddedBatch as EmbeddedBatch
from ._cca import CCA as CCA
from ._coordinated import CoordinatedEmbedder as CoordinatedEmbedder
from ._frozen import FittedTower as FittedTower
from ._presets import PRESETS as PRESETS
from ._two_tower import TwoTower as TwoTower
