"""What the page needs of a model beside its answers, made when it is first asked for and kept."""

from functools import cached_property
from typing import cast

import polars as pl
from torch import Tensor

from seqdiffrec.inference.denoising import Trace, trace_denoising
from seqdiffrec.inference.item_map import ItemMap
from seqdiffrec.models import DiffRec
from seqdiffrec.models.settings import SettingError
from seqdiffrec.serving.page_schemas import (
    MAP_ITEMS,
    Denoising,
    DenoisingRequest,
    Item,
    Map,
    NamedItems,
    Point,
    Run,
    Stage,
    User,
    Users,
)
from seqdiffrec.serving.run_facts import run_facts
from seqdiffrec.serving.search import TextSearch
from seqdiffrec.serving.served import ServedModel

STATE = (
    "This model has no diffusion: there is no noise to take away, and no way from step to step. "
    "The map shows its state after the history, which it compares with all items."
)
ONE_STEP = (
    "Step by step, as in Algorithm 2. The recommendations take a single step from the same noise to a prediction "
    "(Algorithm 3)."
)


class PageData:
    """A served model as the page looks into it; all calls block."""

    def __init__(self, served: ServedModel):
        self.served, self.recommender = served, served.recommender

    @cached_property
    def run(self) -> Run:
        """The run's facts. Raises RunError where its files are broken."""
        return run_facts(self.recommender, self.served.identity)

    def items(self, query: str, limit: int) -> NamedItems:
        """Items by a part of their title or id; of equally good ones the most popular first."""
        return NamedItems(items=[self._item(column) for column in self._items.find(query, limit)])

    def named(self, ids: list[int | str]) -> NamedItems:
        """Items by their ids; those that the model does not know, too."""
        indices = [self.served.item_index(one) for one in ids]
        items = [
            Item(item_id=one, title=None, known=False) if index is None else self._item(index - 1)
            for one, index in zip(ids, indices, strict=True)
        ]
        return NamedItems(items=items)

    def users(self, query: str, limit: int) -> Users:
        """Users of the log by the beginning or a part of their id."""
        ids = self.served.user_ids
        if not ids:
            return Users(users=[], in_log=0)
        lengths = self.recommender.corpus.sequences().lengths
        found = [User(user_id=ids[row], length=int(lengths[row])) for row in self._users.find(query, limit)]
        return Users(users=found, in_log=len(ids))

    @cached_property
    def map(self) -> Map:
        """The most popular items on a plane."""
        if isinstance(self._map, str):
            return Map(note=self._map, shares=[], points=[])
        places = map(_numbers, self._map.points)
        points = [self._point(column, at) for column, at in zip(_columns(self._map.columns), places, strict=True)]
        return Map(note=None, shares=_numbers(self._map.shares), points=points)

    def denoising(self, asked: DenoisingRequest) -> Denoising:
        """The way from noise to an item after a history."""
        if isinstance(self._map, str):
            return Denoising(kind="none", note=self._map, stages=[])
        history, _ = self.served.look_up(asked.history)
        model = self.recommender.model
        try:
            trace = trace_denoising(
                model,
                self._map,
                history,
                seed=asked.seed,
                num_inference_steps=asked.steps,
                filter_viewed=asked.filter_viewed,
            )
        except SettingError as error:  # an empty history: nothing went wrong, there is nothing to see
            return Denoising(kind="none", note=str(error), stages=[])
        stages = self._stages(trace, self._map)
        if not (isinstance(model, DiffRec) and model.has_diffusion):
            return Denoising(kind="state", note=STATE, stages=stages)
        note = ONE_STEP if model.config.inference_steps == 1 else None
        return Denoising(kind="diffusion", note=note, stages=stages)

    def _stages(self, trace: Trace, item_map: ItemMap) -> list[Stage]:
        near = item_map.place(item_map.vectors[trace.nearest])
        stages: list[Stage] = []
        for row, step in enumerate(trace.steps):
            at, predicted, places = _numbers(trace.at[row]), _numbers(trace.predicted[row]), near[row]
            nearest = zip(_columns(trace.nearest[row]), map(_numbers, places), strict=True)
            said = zip(_columns(trace.said.columns[row]), _numbers(trace.said.probabilities[row]), strict=True)
            stages.append(
                Stage(
                    step=step,
                    x=at[0],
                    y=at[1],
                    predicted_x=predicted[0],
                    predicted_y=predicted[1],
                    nearest=[self._point(column, place) for column, place in nearest],
                    said=[
                        self.served.listed(column + 1, score, rank)
                        for rank, (column, score) in enumerate(said, start=1)
                        if score >= 0  # below 0: there are no more items
                    ],
                )
            )
        return stages

    @cached_property
    def _items(self) -> TextSearch:
        vocabulary = self.recommender.vocabulary
        ids = vocabulary["item_id"].cast(pl.String)
        popular = self.recommender.model.item_counts.cpu().argsort(descending=True, stable=True)
        # An item without a title goes by its id; one with a title by both.
        texts = pl.select(pl.concat_str([vocabulary["title"], ids], separator=" ", ignore_nulls=True)).to_series()
        return TextSearch(texts, pl.Series(popular.numpy()))

    @cached_property
    def _users(self) -> TextSearch:
        return TextSearch(pl.Series([str(one) for one in self.served.user_ids], dtype=pl.String))

    @cached_property
    def _map(self) -> ItemMap | str:
        """The map, or why there is none."""
        try:
            return ItemMap.of(self.recommender.model, MAP_ITEMS)
        except SettingError as error:
            return str(error)

    def _item(self, column: int) -> Item:
        return Item(item_id=self.served.ids[column], title=self.served.titles[column])

    def _point(self, column: int, at: list[float]) -> Point:
        return Point(item_id=self.served.ids[column], title=self.served.titles[column], x=at[0], y=at[1])


def _columns(of: Tensor) -> list[int]:
    return cast(list[int], of.tolist())


def _numbers(of: Tensor) -> list[float]:
    return cast(list[float], of.tolist())
