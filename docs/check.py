"""Checks the documentation: links lead somewhere, and the paper-to-code map names what exists.

Run from anywhere: `python docs/check.py`. Each problem is printed with its place; any problem makes exit code 1.
The map, `docs/paper-to-code.md`, is made of tables with the columns `paper`, `file`, `name` and `test`. Each equation
and algorithm has a row of its own whose first cell begins with "Eq. 7" or "Algorithm 2". Names and paths stand in
backticks; a cell may hold several.
"""

import ast
import re
import sys
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
CODE = re.compile(r"`([^`]+)`")
FENCE = re.compile(r"^\s*(```|~~~)")
NEEDED = [f"Eq. {number}" for number in range(1, 19)] + [f"Algorithm {number}" for number in (1, 2, 3)]


def problems(root: Path) -> list[str]:
    """All that is wrong with the documentation of the project at `root`, a line each."""
    pages = [page for page in sorted(root.glob("*.md")) + sorted(root.glob("docs/**/*.md")) if page.is_file()]
    found = [line for page in pages for line in broken_links(root, page)]
    map_page = root / "docs" / "paper-to-code.md"
    if not map_page.is_file():
        return [*found, "docs/paper-to-code.md: missing"]
    return found + wrong_rows(root, map_page)


def broken_links(root: Path, page: Path) -> list[str]:
    """Relative links of `page` that lead to no file."""
    found: list[str] = []
    in_fence = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if FENCE.match(line):
            in_fence = not in_fence
        if in_fence:
            continue
        for link in LINK.findall(CODE.sub("", line)):
            target = link.split("#")[0]
            if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                found.append(f"{page.relative_to(root)}:{number}: the link {link} leads to no file")
    return found


def wrong_rows(root: Path, map_page: Path) -> list[str]:
    """Rows of the map that name what is not there, and equations or algorithms without a row."""
    found: list[str] = []
    missing = list(NEEDED)
    columns: list[str] = []
    for number, line in enumerate(map_page.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("|"):
            columns = []
            continue
        # A bar inside a cell is written \|, as everywhere in Markdown.
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not columns:
            columns = [cell.lower() for cell in cells]
        elif "file" in columns and not set(line) <= set("|-: "):
            row = dict(zip(columns, cells, strict=False))
            missing = [label for label in missing if not re.match(re.escape(label) + r"\b", cells[0])]
            found += [f"{map_page.relative_to(root)}:{number}: {text}" for text in wrong_names(root, row)]
    return found + [f"{map_page.relative_to(root)}: no row for {label}" for label in missing]


def wrong_names(root: Path, row: dict[str, str]) -> list[str]:
    """Files, names and tests of one row of the map that do not exist; a cell without any is wrong, too."""
    files, names, tests = (CODE.findall(row.get(column, "")) for column in ("file", "name", "test"))
    found = [
        f"names no {column}" for column, listed in (("file", files), ("name", names), ("test", tests)) if not listed
    ]
    found += [f"there is no file {file}" for file in files if not (root / file).is_file()]
    defined = {name for file in files for name in definitions(root / file)}
    found += [f"{' and '.join(files)} has no {name}" for name in names if name not in defined]
    for test in tests:
        file, *name = test.split("::")
        if not (root / file).is_file():
            found.append(f"there is no file {file}")
        elif ".".join(name) not in definitions(root / file):
            found.append(f"{file} has no {'::'.join(name) or 'test named here (file::test)'}")
    return found


def definitions(file: Path) -> set[str]:
    """Functions, classes, `Class.method`, fields and module-level names of `file`; empty when it is absent."""
    if not file.is_file():
        return set()
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        names |= defined_by(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{name}" for inner in node.body for name in defined_by(inner)}
    return names


def defined_by(node: ast.stmt) -> set[str]:
    """Names that one statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


if __name__ == "__main__":
    lines = problems(Path(__file__).resolve().parent.parent)
    print("\n".join(lines) or "docs: links and paper-to-code map hold")
    sys.exit(bool(lines))
