from ._conformal import ConformalRetriever as ConformalRetriever
from ._connectivity import ConnectivityRetriever as ConnectivityRetriever
from ._double_nn import DoubleNNRetriever as DoubleNNRetriever
from ._drug_blind import DrugBlindRetriever as DrugBlindRetriever
from ._evidence import EvidenceRetriever as EvidenceRetriever
from ._oracle import OracleRetriever as OracleRetriever
from ._predicted_profile import (
    PredictedProfileRetriever as PredictedProfileRetriever,
)
from ._random import RandomRetriever as RandomRetriever
from ._recommended import recommended_ensemble as recommended_ensemble
from ._recommended import recommended_pipeline as recommended_pipeline
from ._transformed import TransformedTargetRetriever as TransformedTargetRetriever
from ._voting import VotingRetriever as VotingRetriever
