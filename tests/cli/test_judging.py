"""evaluate --segments and --lists, calibrate, recommend --calibrated."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import seqdiffrec as sdr
from seqdiffrec.cli_options import data_of
from seqdiffrec.evaluation.background import Background
from seqdiffrec.inference.judging import lists_of

MODELS = ["diffrec", "shared", "sasrec", "popularity"]


@pytest.mark.parametrize("model", MODELS)
def test_lists_are_those_of_recommend(cli, finished, model):
    run = sdr.load(finished[model])
    data = data_of(run)
    cases = run.cases(data)
    for filtered in (True, False):
        lists = lists_of(run.model, cases, 4, filter_viewed=filtered)
        histories = [
            [data.corpus.item_ids[int(item) - 1] for item in cases.histories[row]] for row in range(len(cases))
        ]
        frame = run.recommend_sequences(histories, 4, filter_viewed=filtered)
        rows = [(row, data.corpus.item_ids[int(item) - 1]) for row, one in enumerate(lists) for item in one if item]
        assert frame.select("history", "item_id").rows() == rows
    found = cli("evaluate", finished[model], "--lists", "--k", 4, "--json").json["lists"]
    assert (found["k"], found["users"], found["filter_viewed"], found["diversity_by"]) == (4, 30, True, "users")
    # The same figures from frames, which know nothing of the run.
    users = pl.DataFrame({"history": np.arange(len(cases)), "user_id": data.corpus.user_ids.gather(cases.users)})
    wanted = run.recommend_sequences(histories, 4).join(users.cast({"history": pl.Int64}), on="history")
    rows, items = data.split.train.flat()
    before = pl.DataFrame({"user_id": rows, "item_id": data.corpus.item_ids.gather(items - 1)})
    frames = sdr.metrics(wanted, ks=[4], before=before, items=data.corpus.item_ids)
    assert {name: one["value"] for name, one in found["metrics"].items()} == pytest.approx(
        {name: figure.value for name, figure in frames.items()}
    )
    bits = Background.of(rows, items, 14).information()[cases.targets].mean()
    assert found["targets"]["Novelty"]["value"] == pytest.approx(bits)


def test_segments_have_the_figures_of_all_cases_in_the_first(cli, finished):
    found = cli("evaluate", finished["sasrec"], "--segments", "--json").json
    first = found["segments"][0]
    assert (first["segment"], first["users"]) == ("all", 30)
    for protocol in ("seen_kept", "seen_removed"):
        assert first[protocol]["HR@10"]["value"] == pytest.approx(found[protocol]["HR@10"])
        assert first[protocol]["NDCG@10"]["value"] == pytest.approx(found[protocol]["NDCG@10"])
    parts = {one["segment"]: one["users"] for one in found["segments"]}
    assert sum(users for name, users in parts.items() if name.endswith("history")) == 30
    assert sum(users for name, users in parts.items() if name.endswith("target")) == 30
    run = sdr.load(finished["sasrec"])
    assert sdr.evaluate_segments(run, data_of(run)) == found["segments"]


def test_both_in_one_screen(cli, finished):
    result = cli("evaluate", finished["diffrec"], "--segments", "--lists", "--keep-viewed")
    assert result.code == 0 and "by segment, all items ranked" in result.out and "viewed items kept" in result.out
    assert "Coverage@10" in result.out and "long history" in result.out and result.out.count("\n") < 60


def test_categories_are_segments_and_what_diversity_goes_by(cli, csv, tmp_path, train):
    kinds = {10 * item: "big" if item > 7 else "small|cheap" for item in range(1, 15)}
    (tmp_path / "items.csv").write_text("item_id,category\n" + "".join(f"{i},{c}\n" for i, c in kinds.items()))
    assert train(csv, "--items", tmp_path / "items.csv", model="popularity").code == 0
    found = cli("evaluate", "run", "--segments", "--lists", "--json").json
    names = {one["segment"] for one in found["segments"] if one["told"].startswith("category")}
    assert names == {"big", "small", "cheap"}
    assert found["lists"]["diversity_by"] == "categories" and "CategoryKL@10" in found["lists"]["metrics"]


@pytest.mark.parametrize("model", MODELS)
def test_a_fitted_temperature_stays_with_the_run(cli, finished, tmp_path, model, refused):
    run = sdr.load(finished[model])
    run.save(tmp_path / "copy")
    refused(cli("recommend", "copy", "--user", "101", "--calibrated"), "no temperature", "calibrate copy --fit")
    before = cli("calibrate", "copy", "--json").json
    assert before["fitted"] is None and [one["temperature"] for one in before["calibration"]] == [1]
    fitted = cli("calibrate", "copy", "--fit", "--json").json
    temperature = fitted["fitted"]["value"]
    assert [one["temperature"] for one in fitted["calibration"]] == [1, temperature]
    assert fitted["calibration"][0] == before["calibration"][0]
    assert fitted["fitted"]["after"] <= fitted["fitted"]["before"]
    plain = cli("recommend", "copy", "--user", "101", "-k", "14", "--keep-viewed", "--json").json["recommendations"]
    warm = cli("recommend", "copy", "--user", "101", "-k", "14", "--keep-viewed", "--calibrated", "--json").json
    assert [row["item_id"] for row in warm["recommendations"]] == [row["item_id"] for row in plain]
    powers = [row["score"] ** (1 / temperature) for row in plain]  # of the whole catalogue
    expected = [power / sum(powers) for power in powers]
    assert [row["score"] for row in warm["recommendations"]] == pytest.approx(expected, rel=1e-3)
    sdr.load("copy").save("again")
    assert sdr.load("again").temperature == temperature


def test_a_temperature_of_other_weights_does_not_count(cli, run):
    cli("calibrate", run, "--fit")
    record = json.loads((run / "run.json").read_text())
    record["temperature"]["weights"] = "0" * 64
    (run / "run.json").write_text(json.dumps(record))
    assert sdr.load(run).temperature is None


def test_an_empty_history_keeps_its_popularity(run, cli):
    cli("calibrate", run, "--fit")
    model = sdr.load(run)
    plain, warm = (model.recommend_sequences([[], [10]], 3, calibrated=flag) for flag in (False, True))
    assert plain["score"][:3].to_list() == warm["score"][:3].to_list()
    assert plain["score"][3:].to_list() != warm["score"][3:].to_list()


def test_calibrate_prints_and_draws(cli, run, refused):
    result = cli("calibrate", run, "--plot", "curve.svg")
    assert "calibration error" in result.out and "log-loss" in result.out
    assert result.next_step == ["seqdiffrec", "calibrate", str(run), "--fit"]
    result = cli("calibrate", run, "--fit", "--plot", "again.svg")
    assert "temperature" in result.out and result.next_step[-1] == "--calibrated"
    assert cli(*result.next_step[1:]).code == 0
    drawn, drawn_with = Path("curve.svg").read_text(), Path("again.svg").read_text()
    assert drawn.count(": error") == 1 and drawn_with.count(": error") == 2  # a line each in the legend
    refused(cli("calibrate", run, "--plot", "curve.jpg"), "must end in .svg or .png")
    refused(cli("calibrate", run, "--plot", "none/curve.svg"), "folder none does not exist")
    refused(cli("calibrate", run, "-k", 15), "larger than the catalogue")
    refused(cli("calibrate", run, "--part", "train"), "test or validation")
    refused(cli("evaluate", run, "--lists", "--part", "train"), "test or validation")


def test_calibrated_and_approximate_do_not_go_together(cli, run, refused):
    cli("calibrate", run, "--fit")
    cli("index", run)
    refused(cli("recommend", run, "--user", "101", "--calibrated", "--approximate"), "leave out one of the two")


def test_the_log_loss_is_that_of_the_ranked_probabilities(cli, finished, log):
    found = cli("calibrate", finished["sasrec"], "--json").json["calibration"][0]
    run = sdr.load(finished["sasrec"])
    losses = []
    for items in log.values():
        frame = run.recommend_sequences([items[:-1]], 14, filter_viewed=False)
        losses.append(-math.log(frame.filter(pl.col("item_id") == items[-1])["score"][0]))
    assert found["log_loss"]["value"] == pytest.approx(np.mean(losses), rel=1e-4)
