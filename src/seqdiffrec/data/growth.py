"""A corpus that grows: by items that nobody has had yet, and by what users did since."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from seqdiffrec.data.corpus import Corpus
from seqdiffrec.data.errors import DataError
from seqdiffrec.data.interactions import Interactions
from seqdiffrec.data.items import beside
from seqdiffrec.data.vocabulary import is_categorical, places_of

log = logging.getLogger("seqdiffrec")


@dataclass(frozen=True, eq=False)
class Longer:
    """A corpus with more actions at the ends of its sequences; old users and items keep their rows and indices.

    is_new: bool (M,), the actions that the corpus did not have before.
    """

    corpus: Corpus
    is_new: NDArray[np.bool_]


def with_more(vocabulary: pl.Series, ids: Iterable[Any], what: str) -> pl.Series:
    """The vocabulary with further ids behind it, in its own type. Raises DataError where one is not of that type.

    what: what to call the ids. A text that is written as a number becomes one; categories become texts.
    """
    known = vocabulary.cast(pl.String) if is_categorical(vocabulary.dtype) else vocabulary
    given = ids if isinstance(ids, pl.Series) else pl.Series(values=list(ids), dtype=None)
    given = given.cast(pl.String) if is_categorical(given.dtype) else given
    if len(given) == 0:
        return vocabulary
    cast = given.cast(known.dtype, strict=False)
    if cast.null_count() or ((known.dtype == pl.String) != (given.dtype == pl.String) and known.dtype == pl.String):
        raise DataError(f"new {what} {given.head(3).to_list()} are not of type {known.dtype}, as the known ones are")
    return pl.concat([known, cast.alias(known.name)])


def with_items(corpus: Corpus, ids: Iterable[Any], items: pl.DataFrame | None = None) -> Corpus:
    """The corpus with further items, which no action has, in a catalogue that is as much longer.

    items: titles and categories of them, as `items_from_frame` checks them.
    Raises DataError for an id that is there already, or not of the type of the others.
    """
    wanted = list(ids)
    for place in np.flatnonzero(places_of(wanted, corpus.item_ids) >= 0)[:1].tolist():
        raise DataError(f"item {wanted[place]!r} is in the catalogue already; leave it out of the new ones")
    item_ids = with_more(corpus.item_ids, wanted, "items")
    if item_ids.is_duplicated().any():
        raise DataError(f"item {item_ids.filter(item_ids.is_duplicated())[0]!r} is there twice among the new ones")
    titles, categories = _beside_longer(corpus, item_ids, items)
    return replace(corpus, item_ids=item_ids, titles=titles, categories=categories)


def longer(corpus: Corpus, more: Interactions, items: pl.DataFrame | None = None) -> Longer:
    """The corpus and what happened since: each user's actions in order of time, new users and items behind the old.

    Actions at equal times keep their order, the old ones first; without times in the corpus the new ones come last.
    Actions that the corpus has already, at the same time or, where it was prepared without repeats, at any, are
    skipped with a warning that counts them. Nothing is dropped for being rare.

    items: titles and categories of new items.
    Raises DataError where nothing is new, where ids are of another type, or where the times cannot be of one log.
    """
    frame = _as_the_corpus(corpus, more)
    user_ids = with_more(corpus.user_ids, _unknown(frame["user_id"], corpus.user_ids), "users")
    item_ids = with_more(corpus.item_ids, _unknown(frame["item_id"], corpus.item_ids), "items")
    rows = np.repeat(np.arange(corpus.num_users), np.diff(corpus.offsets))
    old = dict[str, NDArray[Any]](user=rows, item=corpus.items)
    new = dict[str, NDArray[Any]](
        user=places_of(frame["user_id"], user_ids), item=places_of(frame["item_id"], item_ids) + 1
    )
    if corpus.timestamps is not None:
        old["time"], new["time"] = corpus.timestamps, frame["timestamp"].to_numpy()
    once = bool(corpus.provenance.get("drop_repeats"))
    if once or corpus.timestamps is not None:
        new = _not_yet_there(old, new, once=once)
    count = len(old["user"])
    user, item = (np.concatenate([old[name], new[name]]) for name in ("user", "item"))
    time: Any = np.concatenate([old["time"], new["time"]]) if corpus.timestamps is not None else None
    order = np.argsort(user, kind="stable") if time is None else np.lexsort((time, user))
    if len(order) == count:
        raise DataError(f"{more.source}: none of its {len(frame)} actions is new to {corpus.name!r}")
    titles, categories = _beside_longer(corpus, item_ids, items)
    update = {"source": more.source, "actions": int((order >= count).sum())}
    whole = Corpus(
        items=item[order].astype(np.int32),
        offsets=np.concatenate(([0], np.cumsum(np.bincount(user[order], minlength=len(user_ids))))).astype(np.int64),
        user_ids=user_ids.alias("user_id"),
        item_ids=item_ids.alias("item_id"),
        timestamps=None if time is None else time[order],
        titles=titles,
        categories=categories,
        name=corpus.name,
        provenance={**corpus.provenance, "updates": [*corpus.provenance.get("updates", []), update]},
    )
    return Longer(whole, order >= count)


def _as_the_corpus(corpus: Corpus, more: Interactions) -> pl.DataFrame:
    """The new actions, with whole numbers as texts where the corpus has texts, and with times where it has times."""
    frame = more.frame
    for name, known in (("user_id", corpus.user_ids), ("item_id", corpus.item_ids)):
        if (known.dtype == pl.String or is_categorical(known.dtype)) and frame[name].dtype.is_integer():
            frame = frame.with_columns(frame[name].cast(pl.String))
    has_times = "timestamp" in frame.columns
    if corpus.timestamps is None:
        return frame.sort("timestamp", maintain_order=True) if has_times else frame
    if not has_times:
        raise DataError(f"{more.source} has no times, {corpus.name!r} has; name the column of times")
    kind = corpus.timestamps.dtype
    frame = frame.with_columns(frame["timestamp"].cast(pl.Int64 if kind == np.int64 else pl.Float64))
    first, last = frame["timestamp"].min(), frame["timestamp"].max()
    begun, ended = corpus.timestamps.min(), corpus.timestamps.max()
    if frame["timestamp"].to_numpy().max() < begun:
        raise DataError(
            f"{more.source}: its times run from {first} to {last}, those of {corpus.name!r} from {begun} to {ended}: "
            "they are older than all that is known, or in another unit; give them in the same"
        )
    return frame


def _unknown(ids: pl.Series, vocabulary: pl.Series) -> pl.Series:
    distinct = ids.unique(maintain_order=True)
    return distinct.filter(pl.Series(places_of(distinct, vocabulary) < 0))


def _not_yet_there(
    old: dict[str, NDArray[Any]], new: dict[str, NDArray[Any]], *, once: bool
) -> dict[str, NDArray[Any]]:
    """The new actions without those that are known, or, where a user has an item `once`, without any repeat."""
    same = ["user", "item"] if once else ["user", "item", "time"]
    theirs = np.isin(old["user"], new["user"])
    frame = pl.DataFrame({name: column.astype(old[name].dtype) for name, column in new.items()})
    known = pl.DataFrame({name: column[theirs] for name, column in old.items()})
    kept = frame.join(known, on=same, how="anti", maintain_order="left")
    if once:
        ordered = kept.sort("time", maintain_order=True) if "time" in kept.columns else kept
        kept = ordered.unique(same, keep="first", maintain_order=True)
    if len(kept) < len(frame):
        what = "repeat what the user had" if once else "are in the log already"
        log.warning("%d of %d new actions %s and are skipped", len(frame) - len(kept), len(frame), what)
    return {name: kept[name].to_numpy() for name in new}


def _beside_longer(
    corpus: Corpus, item_ids: pl.Series, items: pl.DataFrame | None
) -> tuple[pl.Series | None, pl.Series | None]:
    """Titles and categories beside the longer vocabulary: the old ones, and those that the table has for new items."""
    added = item_ids[corpus.num_items :]
    told = items is not None and (places_of(items["item_id"], added) >= 0).any()
    found = beside(added, items) if items is not None and told else (None, None)
    columns = list[pl.Series | None]()
    kinds = (("title", corpus.titles, pl.String()), ("categories", corpus.categories, pl.List(pl.String)))
    for (name, old, kind), new in zip(kinds, found, strict=True):
        parts = ((old, corpus.num_items), (new, len(added)))
        whole = [pl.Series(name, [None] * size, kind) if one is None else one.cast(kind) for one, size in parts]
        columns.append(None if old is None and new is None else pl.concat([one.alias(name) for one in whole]))
    return columns[0], columns[1]
