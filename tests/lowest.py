"""Constraints that pin what the package needs to the lowest versions that pyproject.toml allows: `make test-lowest`.

torch is left out: its lowest build brings gigabytes and only differs in speed paths that the other tests time; it stays
at the version of constraints.txt.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The extras whose packages the package calls itself; those that only tests and tools need are not of interest here.
EXTRAS = ("frames", "hub", "plots")
NOT_PINNED = ("torch",)
BOUND = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9][^,;\s]*)")


def lowest(pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """``name==version`` for each requirement with a lower bound. Raises ValueError for one without."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    pins: list[str] = []
    for requirement in wanted:
        found = BOUND.match(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} has no lower bound, so nobody knows whether an old version works")
        if found[1] not in NOT_PINNED:
            pins.append(f"{found[1]}=={found[2]}")
    return pins


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest()) + "\n")
