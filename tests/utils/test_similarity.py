import numpy as np

from sklearn_molge._utils.similarity import paired_similarity


def test_paired_is_the_diagonal():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(150, 5)), rng.normal(size=(150, 5))
    np.testing.assert_allclose(
        paired_similarity(a, b, metric="correlation"),
        [np.corrcoef(x, z)[0, 1] for x, z in zip(a, b, strict=True)],
    )
