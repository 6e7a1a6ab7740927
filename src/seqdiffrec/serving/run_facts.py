"""What the page tells of a run: its course, its figures, and what made it."""

import json
from typing import Any, cast

from seqdiffrec.inference import Recommender
from seqdiffrec.models import DiffRec
from seqdiffrec.serving.page_schemas import Epoch, Figure, Run, Segment, System
from seqdiffrec.serving.schemas import Model
from seqdiffrec.training import RunError, RunFolder

PROTOCOLS = ("seen_kept", "seen_removed")


def run_facts(recommender: Recommender, identity: Model) -> Run:
    """All that the page shows of a run. Raises RunError where one of its files is broken."""
    folder, model = recommender.run, recommender.model
    assert folder is not None
    record = folder.record
    diffusion = isinstance(model, DiffRec) and model.has_diffusion
    best = record["best"]
    titles = recommender.vocabulary["title"]
    fitted = _fitted(folder)
    return Run(
        run=identity.run,
        hash=identity.hash,
        model=type(model).__name__,
        summary=model.summary,
        paper=model.paper,
        draws_noise=diffusion and model.default_seeds > 0,
        default_seeds=model.default_seeds,
        num_steps=cast(DiffRec, model).config.num_steps if diffusion else None,
        max_length=model.max_length,
        num_items=model.num_items,
        has_titles=titles.null_count() < len(titles),
        data=record["corpus"]["name"],
        best_epoch=None if best is None else best["epoch"],
        curves=[_epoch(row) for row in folder.state().history],
        figures=[] if best is None else _figures(best["validation"], "validation"),
        compared=[] if fitted is None else _compared(fitted),
        segments=[] if fitted is None else _segments(fitted),
        facts=_told(record),
        settings=record["settings"]["model_settings"] | record["settings"]["training"],
    )


def _epoch(row: Any) -> Epoch:
    return Epoch(epoch=row["epoch"], train=row["train"], validation=row["validation"])


def _figures(of: dict[str, dict[str, float]], part: Any) -> list[Figure]:
    return [
        Figure(metric=metric, part=part, protocol=cast(Any, protocol), value=value)
        for protocol in PROTOCOLS
        for metric, value in of.get(protocol, {}).items()
    ]


def _fitted(folder: RunFolder) -> dict[str, Any] | None:
    """What `fit` wrote beside the run, if it made it."""
    path = folder.path / "fit.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}; restore it, or take it away") from error


def _compared(fitted: dict[str, Any]) -> list[System]:
    k, protocol = fitted["k"], fitted["protocol"]
    systems: list[System] = []
    for place, one in enumerate(fitted["systems"]):
        figures = [Figure(metric=f"NDCG@{k}", part="validation", protocol=protocol, value=one["validation"])]
        for metric, key in ((f"NDCG@{k}", "ndcg"), (f"HR@{k}", "hit_rate")):
            interval = {name: one[key][name] for name in ("value", "low", "high")}
            figures.append(Figure(metric=metric, part="test", protocol=protocol, **interval))
        systems.append(System(model=one["model"], chosen=place == 0, settings=one["told"] or "", figures=figures))
    return systems


def _segments(fitted: dict[str, Any]) -> list[Segment]:
    """The parts of the test cases that `fit` judged by themselves, if it did."""
    return [
        Segment(
            name=one["segment"],
            told=one.get("told") or "",
            cases=one["users"],
            figures=[
                Figure(metric=metric, part="test", protocol=cast(Any, protocol), **interval)
                for protocol in PROTOCOLS
                for metric, interval in one[protocol].items()
            ],
        )
        for one in fitted.get("quality", {}).get("segments", [])
    ]


def _told(record: dict[str, Any]) -> dict[str, str]:
    corpus, ended = record["corpus"], record.get("ended")
    sizes = ", ".join(f"{corpus[what]:,} {what}" for what in ("users", "items", "actions"))
    told = {
        "Data": f"{corpus['name']}: {sizes}",
        "Status": record["status"] if ended is None else f"{record['status']} ({ended['reason']})",
        "Command": record.get("command"),
        "Revision": record.get("revision"),
        "Versions": ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        "Data hash": corpus["content_hash"],
    }
    return {name: str(value) for name, value in told.items() if value}
