from ._controls import match_controls as match_controls
from ._featurizer import L1000Featurizer as L1000Featurizer
