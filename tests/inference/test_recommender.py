"""The Python API: fit, recommend, recommend_sequences, evaluate, save, load."""

import errno
import shutil

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import seqdiffrec as sdr
from seqdiffrec.data import Sequences
from seqdiffrec.evaluation import rank_targets
from seqdiffrec.models.device import rounds_factors
from seqdiffrec.training import Reporter, RunFolder

MODELS = ["diffrec", "shared", "sasrec", "popularity"]
each_model = pytest.mark.parametrize("name", MODELS)
QUIET = {"reporter": Reporter()}


def probabilities(model: sdr.Recommender, history: list[int]) -> dict[int, float]:
    """Item id to probability after one history of ids, asked of the torch module alone."""
    ids = model.vocabulary["item_id"].to_list()
    items = np.array([ids.index(item) + 1 for item in history], dtype=np.int32)
    scores = model.model.predict_histories(Sequences(items, np.array([0]), np.array([len(items)])))[0]
    return dict(zip(ids, scores.tolist(), strict=True))


def brute_force(model: sdr.Recommender, history: list[int], k: int, left_out: set[int] = frozenset()) -> list[int]:
    scores = probabilities(model, history)
    ids = [item for item in scores if item not in left_out]  # in the order of the vocabulary, which decides ties
    return sorted(ids, key=lambda item: -scores[item])[:k]


def histories_of(frame: pl.DataFrame) -> dict[int, list[int]]:
    return {user: rows["item_id"].to_list() for (user,), rows in frame.group_by("user_id", maintain_order=True)}


def small(**changes: object) -> sdr.DiffRec:
    settings = {"hidden_size": 8, "num_layers": 1, "num_steps": 5, "num_seeds": 1, "epochs": 1, "max_length": 5}
    return sdr.DiffRec(**{**settings, **changes})


# recommend


@each_model
def test_lists_of_users_against_brute_force(models, frame, name):
    model, taken = models[name], histories_of(frame)
    found = model.recommend(users=[103, 100], k=4)
    assert found.columns == ["user_id", "item_id", "score", "rank"]
    assert found["user_id"].to_list() == [103] * 4 + [100] * 4
    assert found["rank"].to_list() == [1, 2, 3, 4] * 2
    for user in (103, 100):
        rows = found.filter(pl.col("user_id") == user)
        assert rows["item_id"].to_list() == brute_force(model, taken[user], 4, set(taken[user]))
        expected = probabilities(model, taken[user])
        assert rows["score"].to_list() == pytest.approx([expected[item] for item in rows["item_id"]], rel=1e-5)


@each_model
def test_lists_of_histories_against_brute_force(models, name):
    model, histories = models[name], [[10, 20, 30], [140], [50, 50, 60, 70, 80, 90, 100, 110]]
    found = model.recommend_sequences(histories, k=5)
    assert found.columns == ["history", "item_id", "score", "rank"]
    for number, history in enumerate(histories):
        rows = found.filter(pl.col("history") == number)
        assert rows["item_id"].to_list() == brute_force(model, history, 5, set(history))


def test_it_shows_itself_on_one_line(models, data, tmp_path):
    assert repr(small()) == "DiffRec(not fitted)"
    assert repr(models["sasrec"]) == "SASRec(fitted on 'data', 14 items)"
    sdr.Popularity().fit(data, out=tmp_path / "run", **QUIET)
    saved = sdr.load(tmp_path / "run")
    assert repr(saved) == f"Popularity(fitted on 'data', 14 items, run {tmp_path / 'run'})"
    shutil.rmtree(tmp_path / "run" / "corpus")
    assert repr(sdr.load(tmp_path / "run")) == f"Popularity(fitted, 14 items, run {tmp_path / 'run'})"


def test_filters(models, frame):
    model, viewed = models["diffrec"], histories_of(frame)[101]
    assert model.recommend([101], 14, filter_viewed=False)["item_id"].to_list() == brute_force(model, viewed, 14)
    only = model.recommend([101], 3, filter_viewed=False, items_to_recommend=[30, 10, 20])
    assert only["item_id"].to_list() == [item for item in brute_force(model, viewed, 14) if item in (10, 20, 30)]
    without = model.recommend_sequences([[10]], 14, exclude_items=[20, 30])
    assert without["item_id"].to_list() == brute_force(model, [10], 14, {10, 20, 30})
    both = model.recommend_sequences([[10]], 14, items_to_recommend=[10, 20, 30], exclude_items=[30])
    assert both["item_id"].to_list() == [20]
    for wrong in ({"items_to_recommend": [10, 7]}, {"exclude_items": [7]}):
        with pytest.raises(sdr.SettingError, match=r"items \[7\] are not in the catalogue of 14 items"):
            model.recommend([101], 3, **wrong)


def test_fewer_rows_where_fewer_items_are_left(models):
    everything = [10 * item for item in range(1, 15)]
    found = models["diffrec"].recommend_sequences([everything[:12], everything, [10]], k=5)
    assert found["history"].to_list() == [0, 0, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("k", [0, -1, 15, 2.0, True])
def test_k_that_cannot_be(models, data, k):
    model = models["sasrec"]
    for ask in (lambda: model.recommend([101], k), lambda: model.recommend_sequences([[10]], k)):
        with pytest.raises(sdr.SettingError):
            ask()
    with pytest.raises(sdr.SettingError):
        model.evaluate(data, ks=[5, k])


def test_unknown_items_are_skipped_and_counted(models, caplog):
    model = models["diffrec"]
    found = model.recommend_sequences([[10, 7, 20], [10, 20]], k=5)
    assert found.filter(history=0).drop("history").equals(found.filter(history=1).drop("history"))
    assert "history 0: 1 of 3 items are unknown and skipped: 7" in caplog.text
    assert "history 1" not in caplog.text


@each_model
def test_an_empty_history_gets_popularity(models, data, caplog, name):
    counts: dict[int, int] = {}
    for sequence in data.split.train:
        for item in sequence:
            counts[int(item)] = counts.get(int(item), 0) + 1
    order = sorted(range(1, 15), key=lambda item: (-counts.get(item, 0), item))
    found = models[name].recommend_sequences([[10], [], [7]], k=6)
    for number in (1, 2):
        rows = found.filter(history=number)
        assert rows["item_id"].to_list() == [data.corpus.item_ids[item - 1] for item in order[:6]]
        shares = [counts.get(item, 0) / sum(counts.values()) for item in order[:6]]
        assert rows["score"].to_list() == pytest.approx(shares)
        assert f"history {number} has no known item" in caplog.text
    assert found.filter(history=0)["item_id"].to_list() == brute_force(models[name], [10], 6, {10})


def test_nobody_asked_nothing_answered(models):
    assert models["sasrec"].recommend([], 3).shape == (0, 4)
    assert models["sasrec"].recommend_sequences([], 3).shape == (0, 4)


def test_an_unknown_user(models):
    with pytest.raises(sdr.DataError, match=r"user 7 is not among the 16 users of 'data'.*for example 100"):
        models["sasrec"].recommend([100, 7])


def test_ids_that_are_texts(frame):
    texts = frame.with_columns(
        pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id")
    )
    numbers = small().fit(sdr.Dataset.from_interactions(frame), **QUIET)
    model = small().fit(sdr.Dataset.from_interactions(texts.to_pandas()), **QUIET)
    found = model.recommend(["u101"], 5)
    assert found["user_id"].to_list() == ["u101"] * 5
    assert found["item_id"].to_list() == [f"i{item}" for item in numbers.recommend([101], 5)["item_id"]]
    # A number asked for by its text is the same, as on a command line; a text by its number is not.
    assert numbers.recommend(["101"], 5).equals(numbers.recommend([101], 5))
    assert numbers.recommend_sequences([["10", "20"]], 5).equals(numbers.recommend_sequences([[10, 20]], 5))
    with pytest.raises(sdr.DataError, match="user 101 is not among"):
        model.recommend([101])


@pytest.mark.parametrize("wrap", [tuple, np.array, pl.Series, pd.Series])
def test_histories_of_other_types(models, wrap):
    model = models["diffrec"]
    assert model.recommend_sequences([wrap([10, 20])], 5).equals(model.recommend_sequences([[10, 20]], 5))


# evaluate


@each_model
def test_evaluate_is_the_mean_over_ranks(models, data, name):
    model = models[name]
    found = model.evaluate(data, ks=[3])
    targets, ranks = data.split.test.targets, []
    for history, target in zip(map(list, data.split.test.histories), targets, strict=True):
        scores = probabilities(model, [data.corpus.item_ids[int(item) - 1] for item in history])
        of_target = scores[data.corpus.item_ids[int(target) - 1]]
        ranks.append(sum(score >= of_target for score in scores.values()))
    assert model.rank(data).seen_kept.tolist() == ranks
    assert found["seen_kept"]["HR@3"] == pytest.approx(np.mean([rank <= 3 for rank in ranks]))
    assert found["seen_kept"]["MRR"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert found["cases"] == len(targets)


def test_evaluate_on_validation_and_on_other_data(models, data, other_data):
    model = models["sasrec"]
    expected = rank_targets(model.model.predict_histories, data.split.validation, 14)
    assert np.array_equal(model.rank(data, part="validation").seen_removed, expected.seen_removed)
    with pytest.raises(sdr.SettingError, match="part is 'train'; give test or validation"):
        model.evaluate(data, part="train")
    with pytest.raises(sdr.RunError, match="not those that this model was trained on"):
        model.evaluate(other_data)


def test_evaluate_in_bfloat16_is_near(models, data):
    if not rounds_factors(torch.device("cpu")):
        with pytest.raises(sdr.SettingError, match="a CPU with AMX"):
            models["sasrec"].evaluate(data, precision="bfloat16")
        return
    seen: list[str] = []

    def progress(done: int, of: int) -> None:
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)

    expected = models["sasrec"].rank(data, progress=progress).seen_kept
    found = models["sasrec"].rank(data, progress=progress, precision="bfloat16").seen_kept
    assert np.abs(expected - found).max() <= 2 and (expected == found).mean() > 0.8
    assert seen == [seen[0]] * (len(seen) // 2) + ["bf16"] * (len(seen) // 2) and seen[0] != "bf16"
    assert torch.backends.mkldnn.matmul.fp32_precision == seen[0]


def test_a_split_in_time_is_part_of_the_run(frame, tmp_path):
    timed = frame.with_columns(timestamp=pl.int_range(pl.len()).over("user_id"))
    data = sdr.Dataset.from_interactions(timed, times=(3, 4))
    model = small().fit(data, out=tmp_path / "run", **QUIET)
    found = model.evaluate(data)
    assert found["cases"] == (timed["timestamp"] == 4).sum()
    for fitted in (model, sdr.load(tmp_path / "run")):
        assert fitted.evaluate(data) == found
        with pytest.raises(sdr.RunError, match="was trained with the split"):
            fitted.evaluate(sdr.Dataset.of(data.corpus))
        with pytest.raises(sdr.RunError, match="was trained with the split"):
            fitted.evaluate(sdr.Dataset.of(data.corpus, (3, 5)))


# fit, save, load


def test_the_example_of_the_front_page(data, tmp_path, capsys):
    model = sdr.DiffRec(hidden_size=8, num_steps=5, num_seeds=1, epochs=1).fit(data)
    assert "epoch   1" in capsys.readouterr().err, "progress is shown"
    assert model.recommend(users=[101], k=3).columns == ["user_id", "item_id", "score", "rank"]
    assert len(model.recommend_sequences([[50, 100]], k=5)) == 5
    assert set(model.evaluate(data)["seen_kept"]) >= {"HR@10", "NDCG@10"}
    model.save(tmp_path / "runs" / "mine")
    loaded = sdr.load(tmp_path / "runs" / "mine")
    assert type(loaded) is sdr.DiffRec and loaded.config == model.config and loaded.training == model.training
    assert loaded.recommend([101], k=3).equals(model.recommend([101], k=3))


@each_model
def test_a_saved_model_comes_back_exactly(models, data, tmp_path, name):
    models[name].save(tmp_path / "run")
    loaded = sdr.load(tmp_path / "run")
    for key, value in models[name].model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value), key
    assert loaded.recommend([101, 102], 5).equals(models[name].recommend([101, 102], 5))
    assert loaded.evaluate(data) == models[name].evaluate(data)
    assert loaded.state.history == models[name].state.history
    with pytest.raises(sdr.RunError, match="exists already"):
        models[name].save(tmp_path / "run")


def test_fit_with_a_folder_is_fit_and_save(data, tmp_path):
    in_memory = small().fit(data, **QUIET)
    on_disk = small().fit(data, out=tmp_path / "run", **QUIET)
    loaded = sdr.load(tmp_path / "run")
    for model in (on_disk, loaded):
        assert model.recommend([101], 14).equals(in_memory.recommend([101], 14))
    assert loaded.run.record["settings"]["model_settings"]["hidden_size"] == 8
    assert loaded.run.record["versions"].keys() >= {"seqdiffrec", "torch", "python"}


def test_training_leaves_the_callers_random_numbers_alone(data):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    small().fit(data, **QUIET)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_without_its_corpus(models, data, other_data, tmp_path):
    model = models["diffrec"]
    model.save(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "corpus")
    loaded = sdr.load(tmp_path / "run")
    assert loaded.recommend_sequences([[10, 20]], 5).equals(model.recommend_sequences([[10, 20]], 5))
    with pytest.raises(sdr.RunError, match="its users are not known here; ask with a history instead"):
        loaded.recommend([101])
    assert loaded.evaluate(data) == model.evaluate(data)
    with pytest.raises(sdr.RunError, match=r"is not the one that .* was trained on"):
        loaded.evaluate(other_data)
    with pytest.raises(sdr.RunError, match="copy its folder"):
        loaded.save(tmp_path / "again")


@pytest.mark.parametrize("fails_at", [1, 9, 12])
def test_a_full_disk_while_saving_leaves_nothing(models, tmp_path, monkeypatch, fails_at):
    calls = 0

    def sync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", sync)
    with pytest.raises(sdr.DataError, match="No space left"):
        models["sasrec"].save(tmp_path / "run")
    assert calls >= fails_at and list(tmp_path.iterdir()) == []


def test_before_fit():
    model = small()
    for ask in (
        lambda: model.recommend([1]),
        lambda: model.recommend_sequences([[1]]),
        lambda: model.save("never"),
        lambda: model.vocabulary,
        lambda: model.model,
    ):
        with pytest.raises(sdr.SettingError, match="not fitted yet"):
            ask()


def test_settings_by_name():
    model = sdr.DiffRec(hidden_size=16, epochs=3, num_heads=4)
    assert (model.config.hidden_size, model.training.epochs) == (16, 3)
    with pytest.raises(sdr.SettingError, match=r"hidden_sise is not a setting; did you mean hidden_size\?"):
        sdr.DiffRec(hidden_sise=16)
    with pytest.raises(sdr.SettingError, match=r"epoch is not a setting; did you mean epochs\?"):
        sdr.SASRec(epoch=16)
    with pytest.raises(sdr.SettingError, match=r"dropout is 1\.5"):
        sdr.SASRec(dropout=1.5)


def test_resume_needs_a_folder(data, tmp_path):
    with pytest.raises(sdr.SettingError, match="resume needs out"):
        small().fit(data, resume=True, **QUIET)
    with pytest.raises(sdr.RunError, match="does not exist"):
        small().fit(data, out=tmp_path / "run", resume=True, **QUIET)


def test_a_model_that_this_version_does_not_have(models, tmp_path):
    models["popularity"].save(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"model": "popularity"', '"model": "oracle"'))
    with pytest.raises(sdr.RunError, match="holds a model 'oracle', which this version does not have"):
        sdr.load(tmp_path / "run")


def test_a_run_with_settings_that_this_version_refuses(data, tmp_path):
    small().fit(data, out=tmp_path / "run", **QUIET)
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"dropout": ', '"dropped": '))
    with pytest.raises(sdr.RunError, match=r"run has settings that this version refuses, .*dropped is not a setting"):
        sdr.load(tmp_path / "run")


class Killed(BaseException):
    pass


def test_a_run_killed_between_its_first_weights_and_its_first_checkpoint_starts_over(data, tmp_path, monkeypatch):
    whole = small().fit(data, out=tmp_path / "whole", reporter=Reporter())
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_checkpoint", lambda *given: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            small().fit(data, out=tmp_path / "cut", reporter=Reporter())
    assert RunFolder.open(tmp_path / "cut").record["weights"] is not None
    again = small().fit(data, out=tmp_path / "cut", resume=True, reporter=Reporter())
    assert again.evaluate(data) == whole.evaluate(data)


@pytest.mark.parametrize(("decay", "refused"), [("constant", False), ("linear", True), ("cosine", True)])
def test_more_epochs_only_where_the_learning_rate_does_not_depend_on_them(data, tmp_path, monkeypatch, decay, refused):
    first = small(epochs=2, decay=decay)
    with monkeypatch.context() as patch:
        patch.setattr(Reporter, "end_epoch", lambda *given: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            first.fit(data, out=tmp_path / "run", reporter=Reporter())
    more = small(epochs=3, decay=decay)
    if refused:
        with pytest.raises(sdr.RunError, match="epochs = 2, not 3"):
            more.fit(data, out=tmp_path / "run", resume=True, reporter=Reporter())
    else:
        assert len(more.fit(data, out=tmp_path / "run", resume=True, reporter=Reporter()).state.history) == 3
