"""The model card of a fitted run: what it is, what it was chosen from, how good it is, and where it ends."""

import html
import textwrap
from typing import Any

from markdown_it import MarkdownIt

from seqdiffrec.data.oddities import UNITS, as_date
from seqdiffrec.data.words import counted
from seqdiffrec.fitting.quality import for_whom, of_lists, of_probabilities
from seqdiffrec.models import MODELS

_PROTOCOLS = {
    "seen_kept": "All items are ranked, also those that a person has had, since people here take items again",
    "seen_removed": "Items that a person has had are left out of the ranking, since people here hardly take one again",
}

_STYLE = """\
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #8888; padding: .3rem .8rem .3rem 0; text-align: left }
img { max-width: 100%; background: white }
pre { overflow-x: auto }"""


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{body}</body>
</html>
"""


def markdown(facts: dict[str, Any], has_curves: bool) -> str:
    """The card of what `fit_log` found, as Markdown.

    facts: the content of fit.json. has_curves: whether curves.svg stands beside the card.
    """
    chosen = facts["systems"][0]
    parts = [
        f"# {facts['data']['name']}: {_called(chosen['model'])}",
        _what_it_is(facts, chosen),
        "## Use",
        "```\n" + "\n".join(facts["use"]) + "\n```",
        "## Chosen from",
        _how_chosen(facts),
        _refitted(facts),
        _table(facts),
        _against_sasrec(facts, chosen),
        *(["![Validation NDCG by epoch of the best trial of each model](curves.svg)"] if has_curves else []),
        *_quality(facts),
        "## Data",
        _data(facts["data"], facts["split"]),
        "## Limits",
        _limits(facts),
        "## Made by",
        _made_by(facts, chosen),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def page(card: str, title: str) -> str:
    """The same card as one HTML file, which needs nothing from elsewhere but the picture beside it."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(card)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _what_it_is(facts: dict[str, Any], chosen: dict[str, Any]) -> str:
    model = MODELS[chosen["model"]]
    paper = f" ({model.paper})" if model.paper else ""
    k = facts["k"]
    return _wrap(
        f"What a person takes next, as a probability for each of {facts['data']['items']:,} items. The model is "
        f"{_called(chosen['model'])}{paper}: {model.summary}. Of {facts['cases']['test']:,} people whose last item it "
        f"had not seen, {chosen['hit_rate']['value']:.1%} found it among their first {k} "
        f"(95 % interval {chosen['hit_rate']['low']:.1%} to {chosen['hit_rate']['high']:.1%})."
    )


def _how_chosen(facts: dict[str, Any]) -> str:
    k = facts["k"]
    return _wrap(
        f"{len(facts['tried'])} trials in {facts['seconds'] / 60:.1f} of {facts['minutes']:g} minutes. The best "
        f"NDCG@{k} on {facts['cases']['validation']:,} validation cases is chosen; the test comes after that. "
        f"{_PROTOCOLS[facts['protocol']]} ({facts['repeats']:.1%} of the actions). In brackets are 95 % intervals over "
        "people; they say nothing about other random starts, of which there was one each."
    )


def _refitted(facts: dict[str, Any]) -> str:
    found = facts["refit"]
    if found is None:
        return ""
    return _wrap(
        f"What was chosen was then trained once more for use, on all {found['actions']:,} actions and for "
        f"{counted(found['epochs'], 'epoch')}: that is the run in this folder. Nothing is left to "
        "test it by; the figures are those of the same settings without the validation and test actions."
    )


def _table(facts: dict[str, Any]) -> str:
    k = facts["k"]
    head = ["", f"validation NDCG@{k}", f"test NDCG@{k}", f"test HR@{k}", "epochs", "minutes", "settings"]
    rows = [head, ["---"] * len(head)]
    for place, one in enumerate(facts["systems"]):
        name = f"**{_called(one['model'])}**, chosen" if place == 0 else _called(one["model"])
        shown = [_interval(one["ndcg"]), _interval(one["hit_rate"])]
        cells = [f"{one['epoch']}", f"{one['seconds'] / 60:.1f}", one["told"] or "none"]
        rows.append([name, f"{one['validation']:.4f}", *shown, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _against_sasrec(facts: dict[str, Any], chosen: dict[str, Any]) -> str:
    found = facts["against_sasrec"]
    if found is None:
        return ""
    clear = "more than chance over people explains" if found["p_value"] < 0.05 else "no clear difference"
    return _wrap(
        f"On test, {_called(chosen['model'])} stands {found['difference']:+.4f} from SASRec in NDCG@{facts['k']} (95 % "
        f"interval {found['low']:+.4f} to {found['high']:+.4f}, p {found['p_value']:.3f}): {clear}."
    )


def _quality(facts: dict[str, Any]) -> list[str]:
    found = facts["quality"]
    items = of_lists(found).splitlines()
    return [
        "## For whom",
        _wrap(f"{found['cases']:,} test cases; in brackets are 95 % intervals over people."),
        for_whom(found, facts["protocol"], facts["k"]),
        "## Its lists",
        "\n".join(_wrap(line, "  ") for line in items),
        "## Its probabilities",
        _wrap(of_probabilities(found)),
    ]


def _data(data: dict[str, Any], split: dict[str, Any] | None) -> str:
    lengths, unit = data["lengths"], data["time_unit"]
    times = None if data["times"] is None else [_moment(time, unit) for time in data["times"]]
    where = "each person's last item is for the test, the one before for validation, the rest for training"
    if split is not None:
        where = ", ".join(f"{name} {_moment(value, unit)}" for name, value in split.items())
        where = f"the log's own, by its column `{split['split']}`" if "split" in split else where
    lines = [
        f"- {data['users']:,} users, {data['items']:,} items, {data['actions']:,} actions; {data['sparsity']} % of the "
        "pairs are empty",
        f"- a history has {lengths['median']:g} actions in the middle, {lengths['p90']:g} at nine of ten, at most "
        f"{lengths['max']:,}",
        *([] if times is None else [f"- times from {times[0]} to {times[1]}"]),
        f"- split: {where}",
        f"- corpus hash `{data['content_hash']}`",
    ]
    return "\n".join(_wrap(line, "  ") for line in lines)


def _moment(value: float | str, unit: str | None) -> str:
    """A time of the log as a date where its numbers count from 1970 in this unit, else as it is."""
    if unit is None or isinstance(value, str):
        return str(value)
    date = as_date(value, UNITS[unit])
    return f"{date.replace('T', ' ')} UTC" if isinstance(date, str) else str(date)


def _limits(facts: dict[str, Any]) -> str:
    data = facts["data"]
    lines = [
        "- Items that are not in the log are never recommended, and are skipped in a history. A person without a known "
        "item gets the most popular ones.",
        *_share("items", "rare_items", "five", "what is said of these is little more than a guess", data),
        *_share("users", "short_users", "three", "none of them is in the test", data),
        "- The log shows what people took of what they were shown. A figure here is not what a live test would give.",
        *(
            []
            if facts["split"] is not None
            else [
                "- Each person's last action is tested, whenever it was, so training has seen what others did later. A "
                "split at one time for all is harder, and closer to use."
            ]
        ),
    ]
    return "\n".join(_wrap(line, "  ") for line in lines)


def _share(of: str, key: str, least: str, so: str, data: dict[str, Any]) -> list[str]:
    return [f"- {data[key]:.1%} of the {of} have fewer than {least} actions: {so}."] if data[key] > 0 else []


def _made_by(facts: dict[str, Any], chosen: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = facts["machine"]
    lines = [
        f"- `{facts['command']}`" if facts["command"] else "- `fit_log`, from Python",
        f"- {versions}; revision {facts['revision'] or 'not from a checkout'}",
        f"- {machine['processor']}, {machine['cores']} cores, {machine['system']}",
        "- settings: " + ", ".join(f"{name} = {value}" for name, value in chosen["settings"].items())
        if chosen["settings"]
        else "- it has no settings",
    ]
    return "\n".join(_wrap(line, "  ") for line in lines)


def _called(name: str) -> str:
    return MODELS[name].__name__


def _interval(of: dict[str, float]) -> str:
    return f"{of['value']:.4f} [{of['low']:.4f}, {of['high']:.4f}]"


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
