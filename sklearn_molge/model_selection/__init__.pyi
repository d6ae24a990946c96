from ._cross_val_ranks import cross_val_ranks as cross_val_ranks
from ._holdout import DrugCellLineSplit as DrugCellLineSplit
from ._holdout import drug_cell_line_split as drug_cell_line_split
from ._hyperopt import HyperoptSearchCV as HyperoptSearchCV
from ._permutation_test import (
    drug_permutation_test_score as drug_permutation_test_score,
)
from ._split import DrugCellLineKFold as DrugCellLineKFold
from ._split import DrugCellLineShuffleSplit as DrugCellLineShuffleSplit
