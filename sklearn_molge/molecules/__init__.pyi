from ._chemprop import ChempropEmbedder as ChempropEmbedder
from ._descriptors import MoleculeDescriptors as MoleculeDescriptors
from ._fingerprints import MoleculeFingerprinter as MoleculeFingerprinter
from ._morgan import MorganFingerprinter as MorganFingerprinter
from ._smiles import canonical_smiles as canonical_smiles
from ._smiles import check_smiles as check_smiles
from ._smiles import drug_ids as drug_ids
