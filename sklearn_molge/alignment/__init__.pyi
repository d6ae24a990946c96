from ._cca import CCA as CCA
