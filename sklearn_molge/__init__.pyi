from . import alignment as alignment
from . import app as app
from . import base as base
from . import datasets as datasets
from . import evaluation as evaluation
from . import exceptions as exceptions
from . import expression as expression
from . import inspection as inspection
from . import library as library
from . import metrics as metrics
from . import model_selection as model_selection
from . import molecules as molecules
from . import parallel as parallel
from . import persistence as persistence
from . import retrieval as retrieval

__version__: str
