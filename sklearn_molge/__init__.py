"""Molecules and the expression profiles that they induce, in one space.

Public names are imported on first use: ``import sklearn_molge`` stays light.
"""

import lazy_loader

__version__ = "0.1.0.dev0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
