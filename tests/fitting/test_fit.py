"""From a log to a chosen run: what is tried, in which time, what is left behind, and what the card says."""

import json
import re
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from seqdiffrec import DataError, Dataset, RunError, SASRec, SettingError, load
from seqdiffrec.data.columns import guess_columns
from seqdiffrec.fitting import card, fit_log, race
from seqdiffrec.fitting.fit import _data_facts, repeat_share
from seqdiffrec.fitting.plan import trials
from seqdiffrec.fitting.race import Contender, Race, Trial, best_of_each
from seqdiffrec.fitting.refit import refit, trials_share
from seqdiffrec.training import Reporter, RunFolder, TrainingInterrupted


def dataset(users: int = 60, length: int = 12, items: int = 20) -> Dataset:
    """People who walk through the items in order, each from a place of their own."""
    rows = [(user, (user * 7 + step) % items) for user in range(users) for step in range(length)]
    return Dataset.from_interactions(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"), name="walks")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of two epochs, of which two make a trial worth while."""
    monkeypatch.setattr(race, "MOST_EPOCHS", 2)
    monkeypatch.setattr(race, "FEWEST_EPOCHS", 10_000)


def fit(out: Path, data: Dataset | None = None, **changes: Any) -> dict[str, Any]:
    said: list[str] = []
    found = fit_log(data or dataset(), out, changes.get("minutes", 5), say=said.append)
    assert said[0] == "popularity: counting" and said[-1].startswith("judging")
    return found


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A fitted run and what was said of it, for several tests to look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race, "MOST_EPOCHS", 2)
        patch.setattr(race, "FEWEST_EPOCHS", 10_000)
        out = tmp_path_factory.mktemp("fitted") / "below" / "run"
        return out, fit(out)


def test_the_chosen_run_serves_and_its_card_stands_beside_it(fitted: tuple[Path, dict[str, Any]]) -> None:
    out, found = fitted
    assert [path.name for path in out.parent.iterdir()] == ["run"]  # no trials are left
    assert json.loads((out / "fit.json").read_text()) == found
    systems = found["systems"]
    assert sorted(one["model"] for one in systems) == ["diffrec", "itemknn", "markov", "popularity", "sasrec"]
    assert [one["validation"] for one in systems] == sorted((one["validation"] for one in systems), reverse=True)
    assert found["chosen"] == systems[0]["model"] == "markov"  # the next item follows from the last one for certain
    run = load(out)
    assert run.run is not None and run.run.record["status"] == "finished"
    metrics = run.evaluate(dataset())
    assert metrics["seen_removed"]["NDCG@10"] == pytest.approx(systems[0]["ndcg"]["value"])
    assert metrics["seen_removed"]["HR@10"] == pytest.approx(systems[0]["hit_rate"]["value"])
    assert systems[0]["ndcg"]["low"] <= systems[0]["ndcg"]["value"] <= systems[0]["ndcg"]["high"]
    text = (out / "card.md").read_text()
    assert "`fit_log`, from Python" in text
    assert "**Markov**, chosen" in text and "60 users, 20 items, 720 actions" in text and "curves.svg" in text
    quality = found["quality"]
    assert quality["segments"][0]["seen_removed"]["NDCG@10"]["value"] == pytest.approx(systems[0]["ndcg"]["value"])
    assert run.temperature == quality["temperature"]["value"] == quality["calibration"][1]["temperature"]
    assert f"At the temperature {run.temperature:.3f}" in text and "have not been checked" not in text
    coverage = quality["lists"]["metrics"]["Coverage@10"]["value"]
    assert f"coverage: {coverage:.1%} of the items" in text
    assert "| short history | at most 11 actions | 60 |" in text
    assert found["against_sasrec"]["difference"] == pytest.approx(
        systems[0]["ndcg"]["value"] - next(one for one in systems if one["model"] == "sasrec")["ndcg"]["value"]
    )


@pytest.mark.usefixtures("quick")
def test_a_refit_learns_from_the_whole_log_and_serves(tmp_path: Path) -> None:
    data = dataset()
    found = fit_log(data, tmp_path / "run", 5, refit=True, say=print)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert found["refit"]["actions"] == 720 and found["refit"]["epochs"] == found["systems"][0]["epoch"]
    run = load(tmp_path / "run")
    assert run.model_name == found["chosen"] and run.model.item_counts.sum() == 720
    with pytest.raises(RunError, match="trained on the whole log, so nothing is left to judge it by"):
        run.evaluate(data)
    assert run.recommend([0], k=1)["item_id"].to_list() == [12]  # after 0 to 11
    card = (tmp_path / "run" / "card.md").read_text()
    assert "once more for use, on all 720 actions" in card and found["systems"][0]["told"] == ""


def test_a_refit_goes_the_way_of_the_trial_and_ends_at_its_best_epoch(tmp_path: Path) -> None:
    data = dataset(users=20)
    settings = {"hidden_size": 8, "num_layers": 1, "max_length": 8, "epochs": 5, "batch_size": 64, "decay": "cosine"}
    trial = Trial("sasrec", settings | {"device": "cpu", "precision": "float32"})
    SASRec(**trial.settings | {"epochs": 1}).fit(data, out=tmp_path / "trial", reporter=Reporter())
    RunFolder.open(tmp_path / "trial").save_temperature({"value": 1.5})
    refit(Contender(trial, tmp_path / "trial", 0.1, 2, 0.0), data, tmp_path / "again", {})
    run = load(tmp_path / "again")
    assert (
        run.temperature == 1.5
        and run.run is not None
        and run.run.record["status"] == "finished"
        and run.state.epoch == 2
    )
    second: dict[str, Any] = {}

    class Keep(Reporter):
        def end_epoch(self, row: Any, state: Any) -> None:
            if state.epoch == 2:
                second.update(RunFolder.open(tmp_path / "five").load_weights())

    SASRec(**trial.settings).fit(data.whole(), out=tmp_path / "five", reporter=Keep())
    weights = run.run.load_weights()
    assert weights.keys() == second.keys() and all(weights[name].equal(second[name]) for name in weights)


def test_trials_leave_time_for_a_refit() -> None:
    """Of 20 users with 12 actions the trials learn 9 targets, the refit 11: half the trials' time, times 11 / 9."""
    share = trials_share(dataset(users=20))
    assert share + share / 2 * 11 / 9 == pytest.approx(1)


def test_a_time_too_short_says_what_fits_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Race, "_epoch_seconds", lambda self, trial: 540.0)
    # Two epochs of 9 minutes, a tenth kept back, are 20 minutes of trials; trials have 93 % of the time.
    with pytest.raises(
        SettingError, match=r"3 minutes are too short.*9\.0 min of diffrec and 9\.0 min of sasrec"
    ) as told:
        fit(tmp_path / "run", minutes=3)
    one, ten = map(int, re.findall(r"--minutes (\d+)", str(told.value)))
    assert one == pytest.approx(20 / 0.93, abs=1) and ten == pytest.approx(200 / 0.93, abs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("held_up", ["train_seconds", "validation_seconds"])
def test_an_epoch_that_was_held_up_does_not_make_the_machine_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held_up: str
) -> None:
    """600 targets at 2 ms and 60 cases at 10 ms are 1.8 s, whichever of the two short epochs something came between."""
    fair = {"targets": 300, "train_seconds": 0.6, "validation_seconds": 0.6}

    class Timed:
        def __init__(self, **settings: Any):
            self.state = self

        def fit(self, data: Dataset, **how: Any) -> Any:
            assert len(data.split.validation) == 60
            self.history = [fair, fair | {held_up: 30.0}]
            return self

    monkeypatch.setattr(race, "recommender_class", lambda model: Timed)
    settings = (tmp_path, 10.0, 0.9, race.time.monotonic(), "seen_kept", print, {})
    trial = trials("sasrec", dataset())[0]
    seconds = Race(dataset(length=13), *settings)._epoch_seconds(trial)
    assert seconds == pytest.approx(0.002 * 60 * (13 - 3) + 0.6)


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="exists already"):
        fit(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written to"):
        fit(tmp_path / "file" / "run")


@pytest.mark.usefixtures("quick")
def test_nothing_is_left_of_a_fit_that_was_stopped(
    tmp_path: Path, at_step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Race, "_epoch_seconds", lambda self, trial: 0.1)

    def stop() -> None:
        raise TrainingInterrupted("now")

    at_step(2, stop)
    with pytest.raises(TrainingInterrupted):
        fit(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_trials_are_as_many_as_have_epochs_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Trial] = []
    monkeypatch.setattr(Race, "_epoch_seconds", lambda self, trial: 6.0)

    def note(self: Race, trial: Trial, folder: Path, reporter: Any) -> Contender:
        trained.append(trial)
        return Contender(trial, folder, 0.1, 1, 0.0)

    monkeypatch.setattr(Race, "_train", note)
    told: list[str] = []
    settings = (tmp_path, 10.0, 0.9, race.time.monotonic(), "seen_kept", told.append, {})
    Race(dataset(), *settings).run()
    learned = [trial for trial in trained if trial.settings]
    # 540 s: 270 for diffrec, of which 90 % are 40 epochs of 6 s, so 4 trials of 10. No time passes here, so SASRec has
    # all 540 s: 81 epochs, more than its trials can use.
    assert [trial.model for trial in learned] == ["diffrec"] * 4 + ["sasrec"] * len(trials("sasrec", dataset()))
    assert learned[0].settings["epochs"] == 10 and learned[-1].settings["epochs"] == race.MOST_EPOCHS
    assert all("min left for" in line for line in told if line.startswith(("diffrec", "sasrec")))


def test_a_trial_ends_with_its_time_and_keeps_its_best_epoch(tmp_path: Path) -> None:
    settings = (tmp_path, 10.0, 0.9, 0.0, "seen_kept", print, {"command": "x"})
    trial = Trial("sasrec", {"hidden_size": 16, "epochs": 50, "batch_size": 64})
    found = Race(dataset(), *settings)._train(trial, tmp_path / "one", race._Until(0.0, 50))
    run = load(tmp_path / "one")
    assert found.epoch == 1 and run.run is not None
    assert run.run.record["status"] == "finished" and run.run.record["ended"]["reason"] == "the time was over"
    assert run.evaluate(dataset(), part="validation")["seen_kept"]["NDCG@10"] == pytest.approx(found.value)


def test_the_plan_follows_the_log() -> None:
    small = trials("diffrec", dataset())
    assert len({str(trial.settings) for trial in small}) == len(small)
    assert {trial.settings["max_length"] for trial in small} == {12}  # a test history of 11, and the target
    assert small[0].settings["batch_size"] == 64 and small[0].settings["attention"] == "shared_history"
    large = trials("sasrec", dataset(users=2000, length=100))
    assert large[0].settings["batch_size"] == 1024 and {one.settings["max_length"] for one in large} == {50, 100}
    corpus = dataset().corpus
    many = replace(dataset(), corpus=replace(corpus, item_ids=pl.Series("item_id", range(60_000))))
    assert trials("sasrec", many)[0].settings["loss"] == "sampled" and "loss" not in large[0].settings


def test_repeats_are_counted_after_the_first_action() -> None:
    # In training, without the last two: a a b a, and c d. Of 3 + 1 later actions two repeat.
    rows = [(0, item) for item in "aabaxy"] + [(1, item) for item in "cdxy"]
    data = Dataset.from_interactions(pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))
    assert repeat_share(data) == pytest.approx(2 / 4)
    ones = Dataset.from_interactions(pl.DataFrame({"user_id": [0, 0, 0, 1, 1, 1], "item_id": [1, 2, 3, 1, 2, 3]}))
    assert repeat_share(ones) == 0


def test_the_best_of_each_model() -> None:
    made = [Contender(Trial(name, {}), Path(), value, 1, 0.0) for name, value in (("a", 0.2), ("b", 0.5), ("a", 0.7))]
    assert [(one.trial.model, one.value) for one in best_of_each(made)] == [("a", 0.7), ("b", 0.5)]


def test_the_card_as_a_page_shows_text_as_text(fitted: tuple[Path, dict[str, Any]]) -> None:
    found = json.loads((fitted[0] / "fit.json").read_text())
    found["data"]["name"] = "<script>alert(1)</script> & more"
    page = card.page(card.markdown(found, False), "<b>mine</b>")
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert "script" not in tags and "b" not in tags and "img" not in tags
    assert tags.count("tr") == 1 + len(found["systems"]) + 1 + len(found["quality"]["segments"])
    assert "&lt;b&gt;mine" in page


@pytest.mark.parametrize(
    ("times", "split", "lines"),
    [
        (
            [874724710, 893286638],  # `date -u -d @874724710`
            {"validation_time": 880000000, "test_time": 890000000},
            ["times from 1997-09-20 03:05:10 UTC to 1998-04-22 23:10:38 UTC\n", "test_time 1998-03-15 22:13:20 UTC\n"],
        ),
        ([1717158600500, 1717158601500], None, ["times from 2024-05-31 12:30:00 UTC to 2024-05-31 12:30:01 UTC\n"]),
        (
            [datetime(2024, 5, 31, 18, 30), datetime(2024, 6, 1)],
            {"validation_time": "2024-05-31T20:00:00", "test_time": "2024-05-31T21:00:00"},
            ["from 2024-05-31 18:30:00 UTC to 2024-06-01 00:00:00 UTC\n", "test_time 2024-05-31T21:00:00\n"],
        ),
        ([3, 17], {"validation_time": 5, "test_time": 9.5}, ["times from 3 to 17\n", "time 5, test_time 9.5\n"]),
    ],
)
def test_the_card_has_dates_where_times_are_dates(
    fitted: tuple[Path, dict[str, Any]], times: list[Any], split: dict[str, Any] | None, lines: list[str]
) -> None:
    log = pl.DataFrame({"user_id": [0, 0, 0, 1], "item_id": [1, 2, 3, 1], "timestamp": [times[0]] * 3 + [times[1]]})
    data = _data_facts(Dataset.from_interactions(log))
    text = card.markdown({**fitted[1], "data": data, "split": split}, False)
    assert all(line in text for line in lines)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["userId", "movieId", "rating", "timestamp"], {"user": "userId", "item": "movieId", "time": "timestamp"}),
        (["Customer_ID", "SKU", "Event Time"], {"user": "Customer_ID", "item": "SKU", "time": "Event Time"}),
        (["session", "user", "item"], {"user": "user", "item": "item"}),
        (["reviewerID", "asin", "unixReviewTime"], {"user": "reviewerID", "item": "asin", "time": "unixReviewTime"}),
    ],
)
def test_columns_are_known_by_their_names(names: list[str], expected: dict[str, str]) -> None:
    assert guess_columns("log.csv", names) == expected


def test_columns_that_are_not_known_are_asked_for() -> None:
    with pytest.raises(DataError, match=r"log.csv: none of the columns 'a', 'item' is called as a user.*--user COL"):
        guess_columns("log.csv", ["a", "item"])
    with pytest.raises(DataError, match="'user_id' and 'userId' may both be the user"):
        guess_columns("log.csv", ["user_id", "userId", "item"])
