"""Rules that hold for every file of the package: which way imports run, no pickle, no long file, no `utils`.

The files are parsed, not imported, so an import inside a function or under TYPE_CHECKING counts as well.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "seqdiffrec"
SOURCE = Path(__file__).parents[2] / "src" / PACKAGE
FILES = sorted(SOURCE.rglob("*.py"))
MAX_LINES = 400

# From the ground up. A part knows only the floors below its own, and itself; parts of one floor do not know each other.
FLOORS = (
    ("allocator",),
    ("data", "diffusion", "losses"),
    ("models",),
    ("evaluation",),
    ("training",),
    ("inference",),
    ("serving", "distributed", "reports"),
    ("config",),
    ("studies", "fitting"),
    ("show",),
    ("demo", "cli_options", "show_survey"),
    ("cli_results", "cli_data", "cli_evaluate", "cli_fit", "cli_ask", "cli_grow", "cli_export", "cli_serve"),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}

PICKLES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def module_name(path: Path) -> tuple[str, bool]:
    """The dotted name of a file below src/, and whether it is a package's __init__."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return ".".join(parts[:-1] if is_package else parts), is_package


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import; `from a import b` gives a.b, since b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                inside = module.split(".")
                kept = len(inside) - node.level + (1 if is_package else 0)
                base = ".".join(inside[:kept] + ([node.module] if node.module else []))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def wrong_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of one module that run upward or sideways, each as a line to read."""
    if module == PACKAGE:
        return []  # the roof: it lists the public names of every floor
    part = module.split(".")[1]
    if part not in FLOOR_OF:
        return [f"{module}: `{part}` stands on no floor; give it one in FLOORS"]
    wrong: list[str] = []
    for line, name in imported_modules(ast.parse(source), module, is_package):
        names = name.split(".")
        if names[0] != PACKAGE:
            continue
        other = names[1] if len(names) > 1 else ""
        if other == part or FLOOR_OF.get(other, len(FLOORS)) < FLOOR_OF[part]:
            continue
        wrong.append(f"{module}:{line} imports {name}, which is not on a floor below `{part}`")
    return wrong


def pickle_uses(source: str, module: str, is_package: bool = False) -> list[str]:
    """The places of one module that read or write pickles, as code: a comment may speak of them."""
    tree = ast.parse(source)
    found = [
        f"{module}:{line} imports {name}"
        for line, name in imported_modules(tree, module, is_package)
        if name.split(".")[0] in PICKLES or name in ("torch.load", "torch.save")
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("torch.load", "torch.save") or called.endswith(("read_pickle", "to_pickle")):
            found.append(f"{module}:{node.lineno} calls {called}")
        for keyword in node.keywords:
            if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                found.append(f"{module}:{node.lineno} allows pickles in {called}")
    return found


def test_there_are_files_to_check() -> None:
    checked = {module_name(path)[0] for path in FILES}
    assert f"{PACKAGE}.evaluation.ranking" in checked
    assert f"{PACKAGE}.evaluation" in checked


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_file_keeps_the_rules(path: Path) -> None:
    module, is_package = module_name(path)
    source = path.read_text(encoding="utf-8")
    assert wrong_imports(source, module, is_package) == []
    assert pickle_uses(source, module, is_package) == []
    assert len(source.splitlines()) <= MAX_LINES, f"split {module}: it has more than {MAX_LINES} lines"
    assert "utils" not in module.split("."), f"{module}: name a module for what it does"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("seqdiffrec.data.corpus", "import seqdiffrec.models.base"),
        ("seqdiffrec.data.corpus", "from seqdiffrec.diffusion.process import forward"),  # sideways
        ("seqdiffrec.diffusion.process", "from seqdiffrec import losses"),
        ("seqdiffrec.models.base", "from ..evaluation.metrics import ndcg"),
        ("seqdiffrec.models.base", "from .. import training"),
        ("seqdiffrec.evaluation.ranking", "def f():\n    from seqdiffrec.training.loop import train"),
        ("seqdiffrec.reports.tables", "import seqdiffrec.serving.app as app"),
        ("seqdiffrec.config", "from seqdiffrec.cli import app"),
        ("seqdiffrec.training.loop", "import seqdiffrec"),  # the roof stands above all
        ("seqdiffrec.training.loop", "from seqdiffrec import DiffRec"),
        ("seqdiffrec.attic.old", "import os"),  # a part without a floor
    ],
)
def test_a_wrong_import_is_caught(module: str, line: str) -> None:
    assert len(wrong_imports(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("seqdiffrec.models.base", "from seqdiffrec.data.corpus import Sequences"),
        ("seqdiffrec.models.base", "from ..diffusion import process\nfrom .encoder import Encoder"),
        ("seqdiffrec.inference.recommender", "from seqdiffrec import data, evaluation"),
        ("seqdiffrec.cli", "from seqdiffrec.config import RunConfig\nimport torch, data"),
        ("seqdiffrec", "from seqdiffrec.cli import app"),
    ],
)
def test_a_right_import_passes(module: str, line: str) -> None:
    assert wrong_imports(line, module) == []


def test_a_relative_import_of_a_package_starts_at_the_package() -> None:
    assert wrong_imports("from .loop import train", "seqdiffrec.training", is_package=True) == []
    assert len(wrong_imports("from ..inference import fit", "seqdiffrec.training", is_package=True)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "weights = torch.load(path)",
        "from torch import load",
        "torch.save(state, path)",
        "np.load(path, allow_pickle=True)",
        "frame.to_pickle(path)",
    ],
)
def test_a_pickle_is_caught(line: str) -> None:
    assert len(pickle_uses(line, "seqdiffrec.training.checkpoint")) == 1


def test_no_pickle_is_seen_where_none_is() -> None:
    assert (
        pickle_uses("# never pickle, never torch.load(\nnp.load(path, allow_pickle=False)", "seqdiffrec.data.x") == []
    )
