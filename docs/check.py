"""Checks the documentation: links lead somewhere, figures stand in records, the paper-to-code map names what exists.

Run from anywhere: `python docs/check.py`. Each problem is printed with its place; any problem makes exit code 1.

A figure is a number between 0 and 1 with three or four decimals, such as .0738, in a table, in a table drawn in a code
block (its lines begin with a bar), or in prose. It is right if, rounded, it is

- a metric of a record that is linked in the same row or, if the row links to none, in the paragraph before the table
  (in prose: in the same paragraph); with several records also the mean or standard deviation of one metric over them;
- a number in a file of `benchmarks/results/` that is linked there; or
- somebody else's: the row's first cell, the column's head or the sentence has the word "paper" or "published".

A p-value ("p = .6307"), and a difference with five decimals ("+.00018"), as tests over users have, is right if a page
of `docs/study/` that is linked there has it, digit by digit.

Not figures are percentages, and what stands in backticks, as settings do. Pages of `docs/study/` that belong to a file
in `studies/` are left out here: `seqdiffrec report --check` makes them from their records again and compares all.

The map, `docs/paper-to-code.md`, is made of tables with the columns `paper`, `file`, `name` and `test`. Each equation
and algorithm has a row of its own whose first cell begins with "Eq. 7" or "Algorithm 2". Names and paths stand in
backticks; a cell may hold several.
"""

import ast
import json
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
CODE = re.compile(r"`([^`]+)`")
FENCE = re.compile(r"^\s*(```|~~~)")
FIGURE = re.compile(r"(?<![\w.])0?\.\d{3,4}(?![\d%]|\.\d| %)")
TESTED = re.compile(r"(?<=p = )0?\.\d+|(?<=p )≤ 0?\.\d+|[+−]\.\d{5}(?!\d)")
BAR = re.compile(r"(?<!\\)[|│]")  # inside a cell a bar is written \|, as everywhere in Markdown
SENTENCE_END = re.compile(r"(?<=[.;:!?])\s+")
ELSEWHERE = re.compile(r"\b(paper|published)\b", re.IGNORECASE)
NEEDED = [f"Eq. {number}" for number in range(1, 19)] + [f"Algorithm {number}" for number in (1, 2, 3)]


def problems(root: Path) -> list[str]:
    """All that is wrong with the documentation of the project at `root`, a line each."""
    pages = [page for page in sorted(root.glob("*.md")) + sorted(root.glob("docs/**/*.md")) if page.is_file()]
    found = [line for page in pages for line in broken_links(root, page)]
    found += [line for page in pages if not is_built(root, page) for line in figures_without_record(root, page)]
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


def is_built(root: Path, page: Path) -> bool:
    """Whether `page` is built from a study's records."""
    return page.parent == root / "docs" / "study" and (root / "studies" / f"{page.stem}.toml").is_file()


def figures_without_record(root: Path, page: Path) -> list[str]:
    """Figures of `page` that no source beside them holds."""
    found: list[str] = []
    for number, text, links in claims(page.read_text(encoding="utf-8")):
        files = [page.parent / link for link in links]
        plain = LINK.sub("", text)
        studies = [file for file in files if is_built(root, file.resolve()) and file.is_file()]
        tested = "\n".join(file.read_text(encoding="utf-8") for file in studies)
        for figure in TESTED.findall(plain):
            if not re.search(rf"(?<![\d≤] ){re.escape(figure)}(?!\d)", tested):
                found.append(f"{page.relative_to(root)}:{number}: {figure} is on no study's page linked beside it")
        figures = FIGURE.findall(TESTED.sub("", plain))
        values = source_values(root, [file for file in files if file.suffix == ".json"]) if figures else []
        for figure in figures:
            half = 0.5 * 10 ** -len(figure.partition(".")[2])
            if not any(abs(value - float(figure)) <= half + 1e-9 for value in values):
                found.append(f"{page.relative_to(root)}:{number}: the figure {figure} is in no record linked beside it")
    return found


def claims(text: str) -> list[tuple[int, str, list[str]]]:
    """Rows and paragraphs: the line's number, the text without what is somebody else's, and the links to sources."""
    found: list[tuple[int, str, list[str]]] = []
    before: list[str] = []  # the links of the paragraph before
    for kind, number, lines in blocks(text):
        if kind == "prose":
            paragraph = CODE.sub("", " ".join(lines))
            before = sources(paragraph)
            own = [sentence for sentence in SENTENCE_END.split(paragraph) if not ELSEWHERE.search(sentence)]
            found.append((number, " ".join(own), before))
        elif kind == "heading":
            before = []
        columns: list[str] = []
        for place, line in enumerate(lines if kind in ("table", "code") else [], start=number):
            if not line.lstrip().startswith(("|", "│")):
                continue
            cells = BAR.split(line if kind == "code" else CODE.sub("", line))[1:]
            columns = columns or (cells if kind == "table" else [""] * len(cells))
            own, above = sources(line), before
            if any(link.endswith(".json") for link in own):  # a row's own records stand for themselves
                above = [link for link in above if not link.endswith(".json")]
            found.append((place, own_cells(cells, columns), [*own, *above]))
    return found


def blocks(text: str) -> list[tuple[str, int, list[str]]]:
    """Runs of lines of one kind (table, code, heading, prose), each with the number of its first line."""
    found: list[tuple[str, int, list[str]]] = []
    in_fence, last = False, ""
    for number, line in enumerate(text.splitlines(), start=1):
        kind = {"|": "table", "#": "heading", "": ""}.get(line.strip()[:1], "prose")
        if in_fence or FENCE.match(line):
            kind, in_fence = "code", in_fence != bool(FENCE.match(line))
        if kind and kind == last:
            found[-1][2].append(line)
        elif kind:
            found.append((kind, number, [line]))
        last = kind
    return found


def own_cells(cells: list[str], columns: list[str]) -> str:
    """The cells of a row that are not said to be somebody else's by the row's first cell or the column's head."""
    if ELSEWHERE.search(cells[0]):
        return ""
    pairs = zip(cells, columns, strict=False)
    return " ".join(cell for cell, head in pairs if cell == head or not ELSEWHERE.search(head))


def sources(text: str) -> list[str]:
    """The JSON files and pages that a text links to."""
    return [link for link in LINK.findall(text) if link.endswith((".json", ".md"))]


def source_values(root: Path, files: list[Path]) -> list[float]:
    """What a figure beside links to these files may be."""
    values: list[float] = []
    metrics: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for file in files:
        content = json.loads(file.read_bytes()) if file.is_file() else {}
        if file.resolve().is_relative_to(root.resolve() / "benchmarks" / "results"):
            values += numbers(content).values()
        for way, value in numbers(content).items():
            if way[:1] in (("validation",), ("test",)):
                metrics[way].append(value)
    for several in metrics.values():
        values += several
        if len(several) > 1:
            values += [statistics.mean(several), statistics.stdev(several)]
    return values


def numbers(content: object) -> dict[tuple[str, ...], float]:
    """All numbers of a JSON value, by the keys on the way to each."""
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return {(str(key), *way): value for key, inner in items for way, value in numbers(inner).items()}
    return {(): float(content)} if isinstance(content, int | float) and not isinstance(content, bool) else {}


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
    print("\n".join(lines) or "docs: links, figures and paper-to-code map hold")
    sys.exit(bool(lines))
