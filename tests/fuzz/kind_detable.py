"""Tables of differential expression: text and workbooks."""

import io
import re
import zipfile

import numpy as np
from harness import FileKind
from kind_tables import set_cells, slow_cells
from mutations import mutate

from sklearn_molge.datasets import read_de_table

GENES = ["TP53", "MYC", "EGFR", "GAPDH", "HSPA8", "CCNB1"]
# Whole numbers of eighths: exact in text, in float32 and in a workbook.
STATS = [3.5, -4.25, 0.5, 6.125, -1.75, 2.0]
CSV = "gene,baseMean,log2FoldChange,stat,pvalue,padj\n" + "".join(
    f"{gene},{100 + i},{stat / 2},{stat},0.0{i + 1},0.{i + 1}\n"
    for i, (gene, stat) in enumerate(zip(GENES, STATS, strict=True))
)
NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)


class DeCsv(FileKind):
    """What DESeq2 writes."""

    name = "detable"
    file, sep = "a.csv", ","

    def make(self, folder):
        folder.joinpath(self.file).write_text(CSV.replace(",", self.sep))

    def read(self, folder):
        query = read_de_table(folder / self.file, genes=GENES[::-1], min_genes=2)
        rows = query.genes[["gene", "value", "status"]].astype(object)
        repr(query), query._repr_html_()
        return [query.profile.to_numpy(), query.rule, rows.to_dict("list")]

    def mutate(self, rng, path, content):
        if rng.random() < 0.5:
            return super().mutate(rng, path, content)
        text = set_cells(rng, content.decode(), self.sep)
        return text.encode("utf-16" if rng.random() < 0.1 else "utf-8")

    def judge(self, case, answer):
        profile, rule, account = answer
        if profile.shape != (1, len(GENES)) or not np.isfinite(profile).all():
            return f"a profile that is none: {profile}"
        used = [
            (str(gene), value)
            for gene, value, status in zip(*account.values(), strict=True)
            if status in ("used", "alias")
        ]
        if np.count_nonzero(profile) > len(used):
            return "more values than used rows"
        if not rule.startswith("stat"):
            return None
        return self.compare(case, used)

    def compare(self, case, used):
        """Look for each gene and its value in one row of the file."""
        content = case.read_bytes()
        rows = [
            r for sep in ",\t;| " for q in (0, 3) for r in slow_cells(content, sep, q)
        ]
        for gene, value in used:
            if not any(gene in row and value in numbers_of(row) for row in rows):
                return f"{gene} with {value} is in no row"
        return None


def numbers_of(row):
    texts = [cell.strip() for cell in row]
    return [float(t.replace(",", ".")) for t in texts if NUMBER.fullmatch(t)]


class DeTsv(DeCsv):
    """The same between tabs."""

    name = "detable-tsv"
    file, sep = "a.tsv", "\t"


class DeWorkbook(DeCsv):
    """A workbook of a spreadsheet, whose members are damaged."""

    name = "detable-xlsx"
    file = "a.xlsx"

    def make(self, folder):
        import openpyxl

        book = openpyxl.Workbook()
        header, *lines = [line.split(",") for line in CSV.splitlines()]
        book.active.append(header)
        for gene, *numbers in lines:
            book.active.append([gene, *map(float, numbers)])
        book.save(folder / self.file)

    def mutate(self, rng, path, content):
        if rng.random() < 0.3:
            return mutate(rng, content, self.max_bytes)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        likely = [n for n in parts if "sheet1" in n or "sharedStrings" in n]
        names = likely if rng.random() < 0.7 else sorted(parts)
        name = names[rng.integers(len(names))]
        parts[name] = mutate(rng, parts[name], self.max_bytes)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, data in parts.items():
                archive.writestr(part, data)
        return out.getvalue()

    def compare(self, case, used):
        return None  # what the damaged members say is openpyxl's to tell


KINDS = [DeCsv(), DeTsv(), DeWorkbook()]
