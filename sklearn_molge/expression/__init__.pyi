from ._align import align_profiles as align_profiles
from ._consensus import ConsensusSignatures as ConsensusSignatures
from ._consensus import consensus_signatures as consensus_signatures
from ._controls import match_controls as match_controls
from ._featurizer import L1000Featurizer as L1000Featurizer
from ._gene_query import profile_from_genes as profile_from_genes
from ._matching import match_genes as match_genes
from ._robust_z import robust_zscore as robust_zscore
