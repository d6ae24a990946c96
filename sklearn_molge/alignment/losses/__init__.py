"""What the embedder minimises: one loss a file.

A loss is an ``nn.Module`` that maps an :class:`~sklearn_molge.alignment.EmbeddedBatch`
to a scalar. It raises ValueError where the batch holds one drug only, since there are
no negatives then.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
