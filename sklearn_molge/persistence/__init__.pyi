from ._background import ModelBackground as ModelBackground
from ._background import load_background as load_background
from ._card import ModelCard as ModelCard
from ._card import describe_model as describe_model
from ._model_file import load_model as load_model
from ._model_file import save_model as save_model
