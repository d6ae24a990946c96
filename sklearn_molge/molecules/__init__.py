"""What goes in on the molecule side: SMILES to features and identities."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
