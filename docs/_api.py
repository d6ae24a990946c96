"""Write the API reference: an overview and a page for every public name.

What is public stands in the packages' ``__init__.pyi``, so a new name gets its page
with the next build.
"""

import ast
import importlib
import inspect
import itertools
from pathlib import Path

import sklearn_molge

ROOT = Path(sklearn_molge.__file__).parent
# In the order in which data walk through the library.
ORDER = (
    "base", "datasets", "molecules", "expression", "alignment",
    "alignment.losses",
    "alignment.samplers", "retrieval", "persistence", "library", "metrics",
    "model_selection", "inspection", "evaluation", "parallel", "exceptions",
)  # fmt: skip


def packages() -> list[str]:
    """Public packages below sklearn_molge, e.g. "alignment.losses"."""
    found = ["base", "exceptions", "parallel"]
    for stub in ROOT.rglob("__init__.pyi"):
        if stub.parent != ROOT:
            found.append(".".join(stub.parent.relative_to(ROOT).parts))
    known = {name: place for place, name in enumerate(ORDER)}
    return sorted(found, key=lambda name: (known.get(name, len(ORDER)), name))


def public_names(package: str) -> dict[str, Path]:
    """Public names of a package, each with the file that defines it."""
    folder = ROOT.joinpath(*package.split("."))
    if not folder.is_dir():
        module = importlib.import_module(f"sklearn_molge.{package}")
        return dict.fromkeys(module.__all__, folder.with_suffix(".py"))
    tree = ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: folder.joinpath(
            *node.module.lstrip(".").split(".")
        ).with_suffix(".py")
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def all_names() -> list[str]:
    """Every public name with its package, e.g. "sklearn_molge.alignment.CCA"."""
    return [
        f"sklearn_molge.{package}.{name}"
        for package in packages()
        for name in public_names(package)
    ]


def meaning(package: str) -> str:
    """First line of a package's docstring."""
    path = ROOT.joinpath(*package.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n")[0]


def data_docstring(package: str, name: str) -> str | None:
    """Return the string below an assignment: how a constant is documented."""
    body = ast.parse(public_names(package)[name].read_text(encoding="utf-8")).body
    for node, below in described_statements(body):
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if name in (getattr(target, "id", None) for target in targets):
            return inspect.cleandoc(getattr(below.value, "value", "") or "")
    return None


def described_statements(body):
    """Neighbouring statements of which the second is an expression."""
    return [pair for pair in itertools.pairwise(body) if isinstance(pair[1], ast.Expr)]


def members(cls: type) -> dict[str, str]:
    """Methods and properties that a class has from this library, with directives."""
    found = {}
    own = [base for base in cls.__mro__ if base.__module__.startswith("sklearn_molge")]
    for base in own:
        for name, member in vars(base).items():
            kind = "autoproperty" if isinstance(member, property) else "automethod"
            hidden = name.startswith("_") or name.endswith("_request")
            if hidden or not (inspect.isroutine(member) or kind == "autoproperty"):
                continue
            if inspect.getdoc(getattr(cls, name)):
                found[name] = kind
    return found


def page(full_name: str) -> str:
    """Return the page of one public name, as reStructuredText."""
    module, name = full_name.rsplit(".", 1)
    thing = getattr(importlib.import_module(module), name)
    lines = [name, "=" * len(name), "", f".. currentmodule:: {module}", ""]
    if inspect.isclass(thing):
        lines += [f".. autoclass:: {name}", ""]
        for member, kind in members(thing).items():
            lines += [f"   .. {kind}:: {member}", ""]
    elif callable(thing):
        lines += [f".. autofunction:: {name}"]
    else:
        lines += [f".. autodata:: {name}", "   :no-value:"]
    return "\n".join([*lines, ""])


def overview() -> str:
    """Return the page that lists all names by package."""
    lines = [
        "API reference",
        "=============",
        "",
        "Everything public, by package, in the order in which data walk through. The",
        "tables are written from the docstrings with each build.",
        "",
    ]
    for package in packages():
        title = f"sklearn_molge.{package}"
        names = list(public_names(package))
        lines += [
            f".. _api-{package.replace('.', '-')}:", "",
            package, "-" * len(package), "", meaning(package), "",
            f".. py:module:: {title}", "",
            ".. autosummary::", "   :nosignatures:", "",
            *(f"   {name}" for name in names), "",
            ".. toctree::", "   :hidden:", f"   :caption: {package}", "",
            *(f"   generated/{title}.{name}" for name in names), "",
        ]  # fmt: skip
    return "\n".join(lines)


def write(folder: Path) -> None:
    """Write all pages; files that did not change keep their date."""
    pages = {folder / "index.rst": overview()}
    for full_name in all_names():
        pages[folder / "generated" / f"{full_name}.rst"] = page(full_name)
    (folder / "generated").mkdir(parents=True, exist_ok=True)
    for path in (folder / "generated").glob("*.rst"):
        if path not in pages:
            path.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
