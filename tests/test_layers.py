"""Imports point one way: read from the text of the files, late imports included."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: From the ground up: a file imports from its own floor and from those below.
FLOORS = [
    "data",
    *(
        "inference.tape",
        "inference.kernels",
        "inference.distributions",
        "inference.paths",
        "inference.linear",
    ),
    *("inference", "inference.rules", "inference.training", "inference.diagnostics"),
    "inference.testing",
    *("zoo.plain_json", "zoo.cards", "zoo.names", "zoo.catalogue"),
    *("zoo.model_files", "zoo.folders", "zoo.budget"),
    *(
        "zoo.pictures",
        "zoo.signature",
        "zoo.part",
        "zoo.parts",
        "zoo.models",
        "zoo.registry",
        "zoo.plans",
        "zoo.recipes",
    ),
    *("zoo.store", "zoo.fitting", "zoo.runs", "zoo.studies", "zoo.report", "zoo.cli"),
]
GATHER = {"inference", "zoo"}  # their __init__ imports what users are to see
LAZY = ("zoo.cli",)  # a command imports what it needs when it runs: torch takes seconds


def modules():
    """Every file of the package, by its dotted name."""
    for top in ("data", "inference", "zoo"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@functools.cache
def imports(name):
    """``(module, late)`` for every relative import of a file but those for type checkers."""
    path = MODULES[name]
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    tree = ast.parse(path.read_text())
    idle = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    top, found = {id(node) for node in tree.body}, []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or id(node) in idle:
            continue
        base = here[: len(here) - node.level + 1]
        base += node.module.split(".") if node.module else []
        for alias in node.names:
            deeper = ".".join([*base, alias.name])
            found.append((deeper if deeper in MODULES else ".".join(base), id(node) not in top))
    return found


def floor(name):
    """The floor of a module: that of the longest name which it begins with."""
    fits = [each for each in FLOORS if f"{name}.".startswith(f"{each}.")]
    return FLOORS.index(max(fits, key=len))


def test_no_import_points_upwards():
    upward = [
        (name, target)
        for name in MODULES
        for target, _ in imports(name)
        if name not in GATHER and floor(target) > floor(name)
    ]
    assert not upward


def test_no_import_is_late():
    late = [
        (name, target)
        for name in MODULES
        for target, is_late in imports(name)
        if is_late and not name.startswith(LAZY)
    ]
    assert not late


def test_there_is_no_circle():
    arrows = {
        name: {target for target, _ in imports(name) if target != name and target in MODULES}
        for name in MODULES
    }
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for target in sorted(arrows[name]):
            visit(target)
        done.add(path.pop())

    for name in arrows:
        visit(name)
