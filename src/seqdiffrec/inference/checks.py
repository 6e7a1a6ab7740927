"""What has to hold before a model can answer."""

from seqdiffrec.data.dataset import WHOLE_LOG
from seqdiffrec.evaluation import check_cutoff
from seqdiffrec.models import SequenceModel
from seqdiffrec.models.settings import SettingError
from seqdiffrec.training import RunFolder

MOST_SEEDS = 1000


def assert_fitted(model: SequenceModel | None) -> SequenceModel:
    """The model, or a SettingError that says to call `fit` first."""
    if model is None:
        raise SettingError("this model is not fitted yet: call fit(data), or load a run")
    return model


def check_k(k: int, num_items: int) -> None:
    """Raise SettingError where no list of k items can be made from the catalogue."""
    try:
        check_cutoff(k, num_items)
    except ValueError as error:
        raise SettingError(str(error)) from error


def check_seeds(num_seeds: int | None) -> None:
    """Raise SettingError where there cannot be so many noise draws."""
    if num_seeds is not None and (type(num_seeds) is not int or not 0 <= num_seeds <= MOST_SEEDS):
        raise SettingError(f"num_seeds is {num_seeds!r}; give a whole number from 0 to {MOST_SEEDS}, or None")


def fitted_temperature(temperature: float | None, run: RunFolder | None, approximate: bool) -> float:
    """The temperature to calibrate by. Raises SettingError where none was fitted, or for an approximate answer."""
    if approximate:
        raise SettingError("an approximate answer has no sum over all items to calibrate by; leave out one of the two")
    if temperature is None and run is not None and run.record.get("split") == WHOLE_LOG:
        raise SettingError(
            "no temperature was fitted before this model was trained on the whole log, and nothing is left to fit one "
            "on; leave out --calibrated, or update or refit a run that has one"
        )
    if temperature is None:
        how = "seqdiffrec.fit_temperature(model, data)" if run is None else f"seqdiffrec calibrate {run.path} --fit"
        raise SettingError(f"no temperature was fitted yet, which calibrated probabilities need: {how}")
    return temperature
