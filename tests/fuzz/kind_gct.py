"""GCT: tables of profiles as text."""

import numpy as np
from harness import FileKind

from sklearn_molge.datasets import read_gct

GOOD = """#1.3
3\t4\t1\t1
id\tsymbol\ts1\ts2\ts3\ts4
cell\tna\tA375\tMCF7\tPC3\tVCAP
10\tAAA\t1.5\t-2.25\t0\t9.25
11\tBBB\t3\t4\t1e-3\t-6
12\tCCC\t7.125\t8\t9\t10
"""


class Gct(FileKind):
    """A small file of version 1.3."""

    name = "gct"

    def make(self, folder):
        folder.joinpath("a.gct").write_text(GOOD)

    def read(self, folder):
        data = read_gct(folder / "a.gct")
        return [np.asarray(data.matrix), data.obs.to_dict(), data.genes.to_dict()]

    def judge(self, case, answer):
        return None if np.isfinite(answer[0]).all() else "values that are not finite"


KINDS = [Gct()]
