import pytest

from sklearn_molge.datasets import make_perturbation_study


@pytest.fixture(scope="session")
def study():
    """A small level 5 study: 60 drugs in 5 lines."""
    return make_perturbation_study(
        level=5, n_molecules=60, n_cell_lines=5, n_genes=40, random_state=0
    )
