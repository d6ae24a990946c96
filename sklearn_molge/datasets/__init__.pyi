from ._fetch import fetch_lincs as fetch_lincs
from ._gct import read_gct as read_gct
from ._gctx import read_gctx as read_gctx
from ._gctx import write_gctx as write_gctx
from ._gctdata import GctData as GctData
from ._lincs import load_lincs as load_lincs
from ._simulation import make_perturbation_study as make_perturbation_study
from ._study import Study as Study
