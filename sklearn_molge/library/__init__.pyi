from ._display import MoleculeQueryDisplay as MoleculeQueryDisplay
from ._file import MoleculeFile as MoleculeFile
from ._index import MoleculeIndex as MoleculeIndex
from ._query_answer import QueryAnswer as QueryAnswer
from ._verify import verify_index as verify_index
