"""A page in the browser and a REST interface, for whoever has no Python."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
