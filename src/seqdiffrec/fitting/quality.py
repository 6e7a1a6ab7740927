"""What the card says of the chosen model beyond one mean: for whom it is good, its lists, its probabilities."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from seqdiffrec.data import Dataset
from seqdiffrec.evaluation.significance import Protocol
from seqdiffrec.inference import evaluate_calibration, evaluate_lists, evaluate_segments, fit_temperature, load
from seqdiffrec.models.settings import SettingError

# Test cases that are looked at, drawn at random, so that a large log does not take more time than the training.
CASES_AT_MOST = 10_000
# Rows of categories in the table of segments.
CATEGORIES_SHOWN = 8


def quality(run: Path, data: Dataset, protocol: Protocol) -> dict[str, Any]:
    """Segments, lists and calibration of a run on test cases; a temperature is fitted on validation, and kept in it.

    protocol: whether lists leave out what the history has.
    """
    recommender = load(run)
    test = data.split.test
    if len(test) > CASES_AT_MOST:
        test = test.select(np.sort(np.random.default_rng(0).permutation(len(test))[:CASES_AT_MOST]))
        data = replace(data, split=replace(data.split, test=test))
    try:
        fitted = asdict(fit_temperature(recommender, data))
    except SettingError:  # every validation target has the probability 0, which the calibration tells
        fitted = None
    k, filtered = min(10, data.corpus.num_items), protocol == "seen_removed"
    calibration = evaluate_calibration(recommender, data, k=k, filter_viewed=filtered)
    return {
        "cases": len(test),
        "segments": evaluate_segments(recommender, data, k=k),
        "lists": evaluate_lists(recommender, data, k=k, filter_viewed=filtered),
        "temperature": fitted,
        "calibration": [asdict(one) for one in calibration],
    }


def for_whom(found: dict[str, Any], protocol: Protocol, k: int) -> str:
    """The segments as a Markdown table."""
    head = ["", "", "users", f"HR@{k}", f"NDCG@{k}"]
    rows = [head, ["---"] * len(head)]
    named = [one for one in found["segments"] if not one["told"].startswith("category")]
    for one in named + [one for one in found["segments"] if one not in named][:CATEGORIES_SHOWN]:
        figures = [_interval(one[protocol][f"{metric}@{k}"]) for metric in ("HR", "NDCG")]
        rows.append([" ".join(one["segment"].replace("|", "/").split()), one["told"], f"{one['users']:,}", *figures])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def of_lists(found: dict[str, Any]) -> str:
    """What the lists are like, as Markdown list items."""
    lists = found["lists"]
    k, metrics, took = lists["k"], lists["metrics"], lists["targets"]

    def value(name: str) -> float:
        return metrics[f"{name}@{k}"]["value"]

    lines = [
        f"- coverage: {value('Coverage'):.1%} of the items stand in any of {lists['users']:,} lists of {k}; Gini "
        f"{value('Gini'):.2f} (0: all equally often, near 1: a few always)",
        f"- novelty: an item was taken by one in {2 ** value('Novelty'):,.1f} people ({value('Novelty'):.2f} bits; "
        f"what people took: {took['Novelty']['value']:.2f} bits)",
        f"- popularity: {value('HeadShare'):.1%} of what is recommended is among the most taken 20 % of the items, and "
        f"{took['HeadShare']['value']:.1%} of what people took",
    ]
    if f"Diversity@{k}" in metrics:
        lines.append(
            f"- diversity: {value('Diversity'):.2f} (1 less the likeness of two items of a list by "
            f"{lists['diversity_by']}, on average)"
        )
    if f"CategoryKL@{k}" in metrics:
        lines.append(f"- categories: {value('CategoryKL'):.2f} nats from those of the history (0: the same mixture)")
    return "\n".join(lines)


def of_probabilities(found: dict[str, Any]) -> str:
    """How right the probabilities are, as a paragraph."""
    own = found["calibration"][0]
    k = found["lists"]["k"]
    text = (
        f"Of the first {k} of each list, what is said to come and what comes differ by {own['top_k']['error']:.4f} on "
        f"average ({own['top_k']['by_chance']:.4f} by chance, were all probabilities right); the target's log-loss is "
        f"{own['log_loss']['value']:.3f} nats."
    )
    if found["temperature"] is None or len(found["calibration"]) < 2:
        return text
    warm = found["calibration"][1]
    return (
        f"{text} At the temperature {warm['temperature']:.3f}, fitted on validation, the log-loss is "
        f"{warm['log_loss']['value']:.3f} nats and they differ by {warm['top_k']['error']:.4f}: "
        "`recommend --calibrated` gives these probabilities, in the same order."
    )


def _interval(of: dict[str, float]) -> str:
    return f"{of['value']:.4f} [{of['low']:.4f}, {of['high']:.4f}]"
