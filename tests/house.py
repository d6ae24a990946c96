"""Measure the structure of the package: ``python tests/house.py [folder]``.

Modules, lines, helper modules with one consumer, private imports across rooms, circles
(imports under TYPE_CHECKING counted, imports inside functions not), tests that import
private modules, and ``Any``.
"""

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "sklearn_molge"
TYPE = "TYPE_CHECKING"
SHARED = ("_compat", "_files", "_utils")  # private rooms that serve all others


def modules(root):
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((root / NAME).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def statements(tree, *, inside_functions):
    """Yield the import statements of a module."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        hidden = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if inside_functions or not hidden:
            stack.extend(ast.iter_child_nodes(node))


def imported(path, known, *, inside_functions=True):
    """Yield the module and the name of everything of ours that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in statements(tree, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == NAME:
                    yield alias.name, None
        elif node.module and node.module.split(".")[0] == NAME:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole, None) if whole in known else (node.module, alias.name)


def room_of(module):
    """First part below the package: a folder, or a module at the top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def has_private_name(module):
    """Whether a part of a dotted name is private; `__main__` and `__init__` are not."""
    parts = module.split(".")
    return any(p.startswith("_") and not p.startswith("__") for p in parts)


def is_private(module):
    """Whether a module is one of a room's own, not of one that all share."""
    return room_of(module) not in SHARED and has_private_name(module)


def stub_modules(root):
    """Modules that a stub makes names public from."""
    found = set()
    for stub in (root / NAME).rglob("__init__.pyi"):
        package = ".".join(stub.parent.relative_to(root).parts)
        for node in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(f"{package}.{node.module}")
    return found


def single_consumer_modules(root):
    """Modules without a public name that exactly one other module imports."""
    known = modules(root)
    consumers = defaultdict(set)
    for module, path in known.items():
        for target, _ in imported(path, known):
            if target != module and target in known:
                consumers[target].add(module)
    public = stub_modules(root)
    return sorted(
        module
        for module, path in known.items()
        if path.name not in ("__init__.py", "__main__.py")
        and module not in public
        and has_private_name(module)
        and len(consumers[module]) == 1
    )


def private_imports_across_rooms(root):
    """Pairs of a module and a private one of another room that it imports from."""
    known = modules(root)
    return sorted(
        {
            (module, target)
            for module, path in known.items()
            for target, name in imported(path, known)
            if room_of(target) != room_of(module)
            and (is_private(target) or (name or "").startswith("_"))
            and room_of(target) not in SHARED
        }
    )


def circles(root):
    """Groups of modules that import each other when they are loaded."""
    known = modules(root)
    graph = {
        module: {
            target
            for target, _ in imported(path, known, inside_functions=False)
            if target in known and target != module
        }
        for module, path in known.items()
    }
    return [sorted(group) for group in _components(graph) if len(group) > 1]


def _components(graph):
    """Strongly connected components, by what reaches what."""
    reach = {module: set(targets) for module, targets in graph.items()}
    changed = True
    while changed:
        changed = False
        for module, targets in reach.items():
            wider = targets.union(*(reach[t] for t in targets))
            changed |= len(wider) > len(targets)
            reach[module] = wider
    seen = set()
    for module in graph:
        group = {m for m in reach[module] if module in reach[m]} | {module}
        if module not in seen:
            seen |= group
            yield group


def tests_of_private_modules(root):
    """Test files that import a private module of the package."""
    known = modules(root)
    found = {}
    for path in sorted((root / "tests").rglob("*.py")):
        if f"_{path.parent.name}" in SHARED:  # these rooms have no other names
            continue
        private = {
            target if name is None else f"{target}.{name}"
            for target, name in imported(path, known)
            if (target in known and has_private_name(target))
            or (name or "").startswith("_")
        }
        if private:
            found[str(path.relative_to(root))] = sorted(private)
    return found


def count_any(root):
    """How often ``Any`` stands in the package."""
    texts = (path.read_text(encoding="utf-8") for path in modules(root).values())
    return sum(len(re.findall(r"\bAny\b", text)) for text in texts)


def measure(root):
    """All measures by name."""
    known = modules(root)
    lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in known.values())
    named = [p for p in known.values() if p.name != "__init__.py"]
    return {
        "modules (with __init__)": len(known),
        "modules (without __init__)": len(named),
        "lines": lines,
        "helper modules with one consumer": len(single_consumer_modules(root)),
        "private imports across rooms": len(private_imports_across_rooms(root)),
        "circles": len(circles(root)),
        "test files that import private modules": len(tests_of_private_modules(root)),
        "test files": len(list((root / "tests").rglob("test_*.py"))),
        "Any": count_any(root),
    }


if __name__ == "__main__":
    folders = [each for each in sys.argv[1:] if each != "-v"]
    ROOT = Path(folders[0]).resolve() if folders else ROOT
    for name, value in measure(ROOT).items():
        print(f"{value:7,}  {name}")
    if "-v" in sys.argv:
        for found in (
            single_consumer_modules(ROOT),
            private_imports_across_rooms(ROOT),
            circles(ROOT),
            tests_of_private_modules(ROOT).items(),
        ):
            print("", *found, sep="\n")
