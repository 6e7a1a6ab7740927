"""`fit_log`: from a dataset to one chosen run with its card, in the minutes that the user gives."""

import json
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seqdiffrec.data import DataError, Dataset, statistics
from seqdiffrec.data.oddities import of_times
from seqdiffrec.data.storage import replace_file
from seqdiffrec.evaluation import Ranks
from seqdiffrec.evaluation.significance import Protocol, mean_interval, paired_bootstrap
from seqdiffrec.fitting import card
from seqdiffrec.fitting.quality import quality
from seqdiffrec.fitting.race import Contender, Race, best_of_each
from seqdiffrec.fitting.refit import refit as train_on_all, trials_share
from seqdiffrec.inference import load
from seqdiffrec.models.settings import SettingError
from seqdiffrec.reports import draw_curves
from seqdiffrec.training import RunFolder
from seqdiffrec.training.checkpoint import refuse_existing

_SHARE = 0.93  # of the time goes into training; what is left is for the test and the card
_FEW_REPEATS = 0.01
_MADE_BY = ("command", "versions", "revision", "machine")


def fit_log(
    data: Dataset,
    out: Path,
    minutes: float = 10,
    *,
    refit: bool = False,
    say: Callable[[str], None],
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Try models within the time, choose the best by validation, judge all on test; `out` gets its run and a card.

    out: the run's folder, with fit.json, card.md and card.html beside the run's own files; new or empty.
    refit: train what was chosen once more, on the whole log, within the same time. That run is then the one in `out`;
        the figures are those of the same settings without the validation and test actions.
    say: takes a line before each part.
    facts: what to note in the run's record, such as the command.

    Returns the content of fit.json: the best of each model, the chosen one first, all trials, the data and the split.
    Raises RunError where something is in `out`, SettingError where the time is too short, TrainingInterrupted on
    Ctrl-C; then nothing is left behind.
    """
    refuse_existing(out)
    began = time.monotonic()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-trials-", dir=out.parent))
    except OSError as error:
        raise DataError(f"{out.parent} cannot be written to: {error.strerror}; choose another --out") from error
    try:
        repeats = repeat_share(data)
        protocol: Protocol = "seen_removed" if repeats < _FEW_REPEATS else "seen_kept"
        share = _SHARE * (trials_share(data) if refit else 1)
        tried = Race(data, work, minutes, share, began, protocol, say, facts or {}).run()
        best = best_of_each(tried)
        say("judging the best of each on the test cases")
        found = {
            "chosen": best[0].trial.model,
            "k": min(10, data.corpus.num_items),
            "protocol": protocol,
            "repeats": repeats,
            **_judged(best, data, protocol),
            "quality": quality(best[0].run, data, protocol),
            "tried": [_told(one) for one in tried],
            "cases": {"validation": len(data.split.validation), "test": len(data.split.test)},
            "data": _data_facts(data),
            "split": data.split_settings,
            "minutes": minutes,
            "refit": None,
            "seconds": time.monotonic() - began,
            "use": [
                shlex.join(["seqdiffrec", "recommend", str(out), "--user", str(data.corpus.user_ids[0])]),
                shlex.join(["seqdiffrec", "info", str(out)]),
            ],
            **{key: RunFolder.open(best[0].run).record.get(key) for key in _MADE_BY},
        }
        kept = best[0].run
        if refit:
            say(f"{best[0].trial.model}: once more, on all {data.corpus.num_actions:,} actions")
            kept = work / "refit"
            found["refit"] = train_on_all(best[0], data, kept, facts or {})
            found["seconds"] = time.monotonic() - began
        _write(found, best, kept, out.name)
        if out.exists():
            out.rmdir()  # refuse_existing lets an empty one stand
        kept.rename(out)
        return found
    finally:
        shutil.rmtree(work, ignore_errors=True)


def repeat_share(data: Dataset) -> float:
    """Share of the training actions, after each user's first, that take an item which that user has had."""
    rows, items = data.split.train.flat()
    later = len(items) - len(np.unique(rows))
    pairs = rows * (data.corpus.num_items + 1) + items
    return (len(items) - len(np.unique(pairs))) / later if later else 0.0


def _judged(best: Sequence[Contender], data: Dataset, protocol: Protocol) -> dict[str, Any]:
    """The best of each model on the test, and the first of them against SASRec."""
    k = min(10, data.corpus.num_items)
    ranks = {one.trial.model: _ranks(load(one.run).rank(data), protocol) for one in best}
    systems = [
        _told(one)
        | {
            "settings": RunFolder.open(one.run).record["settings"]["model_settings"] if one.trial.settings else {},
            "hit_rate": asdict(mean_interval(ranks[one.trial.model], "HR", k)),
            "ndcg": asdict(mean_interval(ranks[one.trial.model], "NDCG", k)),
        }
        for one in best
    ]
    first = best[0].trial.model
    against = None if first == "sasrec" else asdict(paired_bootstrap(ranks[first], ranks["sasrec"], "NDCG", k))
    return {"systems": systems, "against_sasrec": against}


def _ranks(of: Ranks, protocol: Protocol) -> Any:
    return of.seen_removed if protocol == "seen_removed" else of.seen_kept


def _told(one: Contender) -> dict[str, Any]:
    return {
        "model": one.trial.model,
        "told": one.trial.told(),
        "validation": one.value,
        "epoch": one.epoch,
        "seconds": one.seconds,
    }


def _data_facts(data: Dataset) -> dict[str, Any]:
    corpus = data.corpus
    lengths = corpus.sequences().lengths
    counts = np.bincount(corpus.items, minlength=corpus.num_items + 1)[1:]
    times = unit = None
    if corpus.timestamps is not None:
        times = [corpus.timestamps.min().item(), corpus.timestamps.max().item()]
        unit = of_times(corpus.timestamps, is_dates=False)[0]["unit"]
    middle, long = np.quantile(lengths, (0.5, 0.9))
    return {
        "name": corpus.name,
        **statistics(corpus),
        "lengths": {"median": float(middle), "p90": float(long), "max": int(lengths.max())},
        "short_users": float(np.mean(lengths < 3)),
        "rare_items": float(np.mean(counts < 5)),
        "times": times,
        "time_unit": unit,
        "content_hash": corpus.content_hash,
    }


def _write(found: dict[str, Any], best: Sequence[Contender], folder: Path, name: str) -> None:
    """The card, its picture and fit.json, into the folder of the run that is kept."""
    learned = [one for one in best if one.trial.settings]
    curves = {
        one.trial.model: {"curve": state.history, "best_epoch": one.epoch, "corpus": {"items": found["data"]["items"]}}
        for one in learned
        for state in [RunFolder.open(one.run).state()]
    }
    try:
        draw_curves(curves, folder / "curves.svg")
        has_curves = True
    except SettingError:  # a card without a picture is better than none: matplotlib is an extra
        has_curves = False
    text = card.markdown(found, has_curves)
    replace_file(folder / "card.md", text.encode())
    replace_file(folder / "card.html", card.page(text, name).encode())
    replace_file(folder / "fit.json", json.dumps(found, indent=1).encode() + b"\n")
