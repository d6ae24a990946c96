from ._double_nn import DoubleNNRetriever as DoubleNNRetriever
from ._drug_blind import DrugBlindRetriever as DrugBlindRetriever
from ._oracle import OracleRetriever as OracleRetriever
from ._random import RandomRetriever as RandomRetriever
from ._transformed import TransformedTargetRetriever as TransformedTargetRetriever
from ._voting import VotingRetriever as VotingRetriever
