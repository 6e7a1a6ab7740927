"""A fitted model judged beyond one mean: its lists, segments of users, and its probabilities."""

from dataclasses import asdict
from typing import TypedDict

import numpy as np
import torch

from seqdiffrec.data import Dataset
from seqdiffrec.data.split import Cases
from seqdiffrec.evaluation import Progress, temperature
from seqdiffrec.evaluation.background import Background, Categories
from seqdiffrec.evaluation.calibration import Calibration, measure_calibration
from seqdiffrec.evaluation.lists import Lists, list_metrics
from seqdiffrec.evaluation.ranking import Ranks, cases_at_once, rank_targets
from seqdiffrec.evaluation.segments import SegmentFigures, make_segments, segment_figures
from seqdiffrec.evaluation.temperature import Temperature
from seqdiffrec.inference.checks import check_k
from seqdiffrec.inference.recommender import Recommender
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.settings import SettingError
from seqdiffrec.models.top import BARRED


class ListEvaluation(TypedDict):
    """What a model's lists are like. Goes into JSON as it is.

    metrics: by name, such as Coverage@10: value, low, high (95 %; null for figures of all lists together), users.
    targets: Novelty, Popularity and HeadShare of what these users took, to hold the same of the lists against.
    diversity_by: what two items are alike by: categories, or users (who took both).
    """

    k: int
    users: int
    num_items: int
    filter_viewed: bool
    diversity_by: str
    metrics: dict[str, dict[str, float | None]]
    targets: dict[str, dict[str, float | None]]


def evaluate_lists(
    recommender: Recommender,
    data: Dataset,
    *,
    k: int = 10,
    part: str = "test",
    filter_viewed: bool = True,
    progress: Progress | None = None,
) -> ListEvaluation:
    """Coverage, Gini, novelty, diversity, popularity and categories of the lists of k items that the cases get.

    filter_viewed: leave out what the history has, as `recommend` does. ``part`` is test or validation.
    Raises RunError and SettingError as `Recommender.evaluate` does.
    """
    check_k(k, recommender.model.num_items)
    cases = recommender.cases(data, part)
    lists = lists_of(recommender.model, cases, k, filter_viewed=filter_viewed, progress=progress)
    background, categories = background_of(data), categories_of(data)
    num_items = recommender.model.num_items
    metrics = list_metrics(lists, num_items, background, categories, cases.histories.flat())
    targets = list_metrics(cases.targets[:, None], num_items, background)
    return {
        "k": k,
        "users": len(cases),
        "num_items": num_items,
        "filter_viewed": filter_viewed,
        "diversity_by": "users" if categories is None else "categories",
        "metrics": {f"{name}@{k}": asdict(figure) for name, figure in metrics.items()},
        "targets": {name: asdict(targets[name]) for name in ("Novelty", "Popularity", "HeadShare")},
    }


def evaluate_segments(
    recommender: Recommender,
    data: Dataset,
    *,
    k: int = 10,
    part: str = "test",
    progress: Progress | None = None,
) -> list[SegmentFigures]:
    """HR, NDCG and MRR at k by full ranking, of all cases and of segments of them, with 95 % intervals over users.

    Short and long histories, new users, popular and rare targets, and categories of targets where the data have any.
    Raises RunError and SettingError as `Recommender.evaluate` does.
    """
    check_k(k, recommender.model.num_items)
    cases = recommender.cases(data, part)
    ranks = rank_targets(recommender.model.predict_histories, cases, recommender.model.num_items, progress=progress)
    return segments_of(ranks, cases, data, k)


def segments_of(ranks: Ranks, cases: Cases, data: Dataset, k: int) -> list[SegmentFigures]:
    """The same from ranks that are there already."""
    return segment_figures(ranks, make_segments(cases, background_of(data), categories_of(data)), k)


def fit_temperature(recommender: Recommender, data: Dataset, *, progress: Progress | None = None) -> Temperature:
    """Fit a temperature on the validation cases, and keep it for ``recommend(calibrated=True)``, in the run if any.

    Raises RunError as `Recommender.evaluate` does, SettingError where every target has the probability 0.
    """
    model, cases = recommender.model, recommender.cases(data, "validation")
    try:
        found = temperature.fit_temperature(model.predict_histories, cases, model.num_items, progress)
    except ValueError as error:
        raise SettingError(str(error)) from error
    recommender.temperature = found.value
    if recommender.run is not None:
        recommender.run.save_temperature(asdict(found))
    return found


def evaluate_calibration(
    recommender: Recommender,
    data: Dataset,
    *,
    k: int = 10,
    part: str = "test",
    filter_viewed: bool = True,
    progress: Progress | None = None,
) -> list[Calibration]:
    """How right the probabilities are: the model's own, and where a temperature was fitted also those at it.

    filter_viewed: leave what the history has out of the lists; the probabilities stay those over all items.
    Raises RunError and SettingError as `Recommender.evaluate` does.
    """
    model = recommender.model
    check_k(k, model.num_items)
    temperatures = [1.0] if recommender.temperature is None else [1.0, recommender.temperature]
    return measure_calibration(
        model.predict_histories,
        recommender.cases(data, part),
        model.num_items,
        k,
        temperatures,
        filter_viewed=filter_viewed,
        progress=progress,
    )


def lists_of(
    model: SequenceModel, cases: Cases, k: int, *, filter_viewed: bool = True, progress: Progress | None = None
) -> Lists:
    """int32 (B, k), the item indices of each case's list, best first; 0 where a list is shorter."""
    allowed = torch.ones(model.num_items, dtype=torch.bool)
    lists = np.zeros((len(cases), k), np.int32)
    step = cases_at_once(model.num_items)
    for start in range(0, len(cases), step):
        rows = slice(start, min(start + step, len(cases)))
        top = model.top_of_histories(cases.histories.select(rows), k, allowed, filter_viewed=filter_viewed)
        lists[rows] = torch.where(top.probabilities == BARRED, 0, top.columns + 1).cpu().numpy()
        if progress is not None:
            progress(rows.stop, len(cases))
    return lists


def background_of(data: Dataset) -> Background:
    """What people took in training."""
    return Background.of(*data.split.train.flat(), data.corpus.num_items)


def categories_of(data: Dataset) -> Categories | None:
    """Of the items, where the data have them."""
    categories = data.corpus.categories
    return None if categories is None or categories.null_count() == len(categories) else Categories.of(categories)
