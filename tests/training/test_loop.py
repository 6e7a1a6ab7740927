"""The loop: the best epoch wins, runs end when they should, and nothing but the seed decides."""

import math
import os
import signal
import threading

import pytest
import torch

from seqdiffrec.data.split import whole_log
from seqdiffrec.models import Loss
from seqdiffrec.training import Reporter, RunFolder, TrainingConfig, TrainingDiverged, TrainingInterrupted, loop
from seqdiffrec.training.loop import seeded

main_thread_only = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="only the main thread gets signals"
)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def copied(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class KeepWeights(Reporter):
    """The weights at the end of each epoch."""

    def __init__(self, model):
        self.model, self.weights, self.rows = model, [], []

    def end_epoch(self, row, state):
        self.weights.append(copied(self.model))
        self.rows.append(row)


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let the validations give these NDCG@10."""
    left = iter(values)

    def evaluate(*args: object, **kwargs: object) -> dict[str, object]:
        value = next(left)
        return {"seen_kept": {"NDCG@10": value}, "seen_removed": {"NDCG@10": 1 - value}}

    monkeypatch.setattr(loop, "evaluate", evaluate)


def test_without_validation_cases_every_epoch_is_trained_and_the_last_is_kept(build, trainer_for, corpus, tmp_path):
    model = build()
    reporter = KeepWeights(model)
    run = RunFolder.create(tmp_path / "run", {}, corpus, {})
    trainer = trainer_for(model, epochs=3, patience=1, data=whole_log(corpus), reporter=reporter, run=run)
    state = trainer.train()
    assert [row["targets"] for row in reporter.rows] == [corpus.num_actions - corpus.num_users] * 3
    assert [(row["value"], row["validation"]) for row in state.history] == [(None, {})] * 3
    assert same(copied(model), reporter.weights[-1]) and not same(copied(model), reporter.weights[0])
    opened = RunFolder.open(tmp_path / "run")
    assert opened.record["best"] == {"epoch": 3, "validation": {}}
    assert same(opened.load_weights(), reporter.weights[-1])
    assert opened.state().history == state.history


@pytest.mark.parametrize("settings", [{}, {"attention": "shared_history"}])
def test_the_seed_decides_everything_else_nothing(build, trainer_for, settings):
    weights = []
    for torch_seed, seed in ((1, 5), (2, 5), (1, 6)):
        model = build(**settings)
        trainer = trainer_for(model, seed=seed, epochs=1)
        torch.manual_seed(torch_seed)
        trainer.train()
        weights.append(copied(model))
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_torchs_generator_goes_on_as_if_nothing_had_happened(build, trainer_for):
    trainer = trainer_for(build(), epochs=1)
    before = torch.get_rng_state()
    trainer.train()
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_of_a_step_depend_on_seed_epoch_and_step():
    def draws(*where: int) -> list[float]:
        with seeded(*where, torch.device("cpu")):
            return torch.rand(3).tolist()

    first = draws(1, 2, 3)
    torch.rand(5)
    assert draws(1, 2, 3) == first
    assert len({tuple(draws(*where)) for where in ((1, 2, 3), (1, 3, 2), (2, 2, 3), (1, 2, 4), (1, 1, 3))}) == 5


def test_every_target_of_the_epoch_is_counted(build, trainer_for, split):
    state = trainer_for(build(), epochs=2).train()
    expected = int((split.train.lengths - 1).clip(min=0).sum())
    assert [row["targets"] for row in state.history] == [expected, expected]
    last_only = trainer_for(build(), epochs=1, prefixes=False).train()
    assert last_only.history[0]["targets"] == int((split.train.lengths >= 2).sum())


def test_the_loss_falls_and_its_parts_are_recorded(build, trainer_for):
    history = trainer_for(build(dropout=0.0), epochs=6).train().history
    assert [row["epoch"] for row in history] == list(range(1, 7))
    for row in history:
        assert set(row["train"]) == {"loss", "recommendation", "mse"}
        assert row["train"]["loss"] == pytest.approx(row["train"]["recommendation"] + row["train"]["mse"], rel=1e-6)
        assert row["embedding_norm"] > 0 and row["train_seconds"] >= 0
        assert 0 <= row["validation"]["seen_kept"]["NDCG@10"] <= row["validation"]["seen_removed"]["NDCG@10"] <= 1
    assert history[-1]["train"]["loss"] < 0.95 * history[0]["train"]["loss"]


def test_the_epochs_loss_is_the_mean_over_targets(build, trainer_for, monkeypatch):
    model = build("sasrec")
    seen, real = [], model.loss

    def loss(batch):
        result = real(batch)
        seen.append((result.parts["loss"], len(batch.targets)))
        return result

    monkeypatch.setattr(model, "loss", loss)
    history = trainer_for(model, epochs=1).train().history
    assert len({count for _, count in seen}) > 1, "batches of one size would not tell"
    mean = sum(value * count for value, count in seen) / sum(count for _, count in seen)
    assert history[0]["train"]["loss"] == pytest.approx(mean, rel=1e-9)


def test_patience_and_the_best_epoch(build, trainer_for, run, monkeypatch):
    scripted(monkeypatch, [0.3, 0.5, 0.4, 0.5, 0.9])  # an equal value is no better one
    model = build()
    reporter = KeepWeights(model)
    state = trainer_for(model, run=run, reporter=reporter, epochs=10, patience=2).train()
    assert [row["improved"] for row in reporter.rows] == [True, True, False, False]
    assert (state.epoch, state.best_epoch, state.best_value) == (4, 1, 0.5)
    assert same(model.state_dict(), reporter.weights[1]), "the model ends with its best epoch"
    assert not same(reporter.weights[1], reporter.weights[3])
    opened = RunFolder.open(run.path)
    assert same(opened.load_weights(), reporter.weights[1])
    assert opened.record["best"]["epoch"] == 2
    assert opened.record["status"] == "finished" and "2 epochs" in opened.record["ended"]["reason"]


GAME_FROM_EPOCH_5 = {"pretraining_epochs": 3, "discriminator_pretraining_epochs": 1, "num_buckets": 4}


@pytest.mark.parametrize("stop_after", [None, 1, 4 * 4 + 2], ids=["whole", "cut at first", "cut in the game"])
def test_pretraining_uses_up_no_patience_and_has_not_the_best_epoch(
    build, trainer_for, run, monkeypatch, caplog, stop_after
):
    scripted(monkeypatch, [0.9, 0.8, 0.7, 0.6, 0.1, 0.3, 0.2, 0.2, 0.9])
    model = build("mfgan", **GAME_FROM_EPOCH_5)
    settings = {"run": run, "epochs": 10, "patience": 2}
    if stop_after is not None:
        cut = trainer_for(model, stop_after=stop_after, **settings)
        with pytest.raises(TrainingInterrupted):
            cut.train()
        assert cut.state.epoch == (0 if stop_after == 1 else 4), "in the game's first epoch"
        model = build("mfgan", seed=3, **GAME_FROM_EPOCH_5)
        settings["run"] = RunFolder.open(run.path)
    reporter = KeepWeights(model)
    trainer = trainer_for(model, reporter=reporter, **settings)
    if stop_after is not None:
        trainer.resume()
    state = trainer.train()
    assert [row.get("pretraining", False) for row in state.history] == [True] * 4 + [False] * 4
    assert [row["improved"] for row in state.history] == [True, False, False, False, True, True, False, False]
    assert (state.epoch, state.best_epoch, state.best_value) == (8, 5, 0.3)
    assert same(model.state_dict(), reporter.weights[5 - state.epoch + len(reporter.weights)])
    opened = RunFolder.open(run.path)
    assert opened.record["best"]["epoch"] == 6 and opened.state().history == state.history
    assert opened.record["ended"]["reason"] == "2 epochs without a better NDCG@10"
    assert "pre-training" not in caplog.text


@pytest.mark.parametrize("prefixes", [True, False])
def test_phases_follow_the_targets_that_are_trained(build, trainer_for, prefixes):
    model = build("mfgan", pretraining_epochs=2, discriminator_pretraining_epochs=1, generator_epochs=1)
    state = trainer_for(model, epochs=4, prefixes=prefixes).train()
    parts = [set(row["train"]) for row in state.history]
    generator, discriminators = {"loss", "recommendation"}, {"loss", "discriminators"}
    assert parts == [generator, generator, discriminators, generator | {"policy", "reward"}]
    assert [row.get("pretraining", False) for row in state.history] == [True, True, True, False]


def test_a_run_that_ends_in_pretraining_keeps_its_best_and_says_so(build, trainer_for, run, monkeypatch, caplog):
    scripted(monkeypatch, [0.2, 0.5, 0.4, 0.3])
    model = build("mfgan", **GAME_FROM_EPOCH_5)
    reporter = KeepWeights(model)
    state = trainer_for(model, run=run, reporter=reporter, epochs=4, patience=1).train()
    assert (state.epoch, state.best_epoch) == (4, 1)
    assert same(model.state_dict(), reporter.weights[1])
    assert RunFolder.open(run.path).record["ended"] == {"epochs": 4, "reason": "all epochs done, in pre-training"}
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("MFGAN: all that was trained, 4 epochs, was pre-training")


def test_a_run_ends_after_its_epochs(build, trainer_for, run, monkeypatch):
    scripted(monkeypatch, [0.1, 0.2, 0.3, 0.4])
    state = trainer_for(build(), run=run, epochs=3, patience=1).train()
    assert state.epoch == 3 and state.best_epoch == 2
    assert RunFolder.open(run.path).record["ended"] == {"epochs": 3, "reason": "all epochs done"}


def test_a_patience_of_one_is_one_epoch(build, trainer_for, run, monkeypatch):
    scripted(monkeypatch, [0.2, 0.1])
    trainer_for(build(), run=run, epochs=3, patience=1).train()
    ended = RunFolder.open(run.path).record["ended"]
    assert ended == {"epochs": 2, "reason": "1 epoch without a better NDCG@10"}


def test_popularity_is_validated_once_and_has_no_optimiser(build, trainer_for, run, split, corpus):
    model = build("popularity")
    trainer = trainer_for(model, run=run, epochs=7)
    state = trainer.train()
    assert trainer.optimizer is None and state.epoch == 1
    assert state.history[0]["embedding_norm"] is None and state.history[0]["train"] == {}
    counts = torch.zeros(corpus.num_items, dtype=torch.int64)
    for row in range(len(split.train)):
        for item in split.train[row].tolist():
            counts[item - 1] += 1
    assert torch.equal(RunFolder.open(run.path).load_weights()["item_counts"], counts)


def test_clipping_bounds_the_gradient(build, trainer_for):
    norms: dict[float | None, list[float]] = {}
    for limit in (None, 0.01):
        trainer = trainer_for(build(), epochs=1, max_gradient_norm=limit)
        norms[limit] = []

        def measure(optimizer, *_, kept=norms[limit]):
            gradients = [parameter.grad for parameter in optimizer.param_groups[0]["params"]]
            kept.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))

        trainer.optimizer.register_step_pre_hook(measure)
        trainer.train()
    assert min(norms[None]) > 0.02, "off by default: otherwise this test says nothing"
    assert max(norms[0.01]) <= 0.01 * 1.001


def test_ctrl_c_saves_and_says_so(build, trainer_for, run):
    trainer = trainer_for(build(), run=run, stop_after=4)
    with pytest.raises(TrainingInterrupted, match="stopped in epoch 1 after 4 steps"):
        trainer.train()
    opened = RunFolder.open(run.path)
    assert opened.record["status"] == "training"
    fresh = trainer_for(build(seed=9), run=opened)
    fresh.resume()
    assert (fresh.state.epoch, fresh.state.step) == (0, 4)
    assert same(fresh.model.state_dict(), trainer.model.state_dict())


@main_thread_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_at_hand(build, trainer_for, run, number):
    class Kill(Reporter):
        def step(self, state):
            if state.step == 3:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match="after 3 steps"):
        trainer_for(build(), run=run, reporter=Kill()).train()
    assert signal.getsignal(number) is before
    assert RunFolder.open(run.path).record["checkpoint"] is not None


@main_thread_only
def test_a_second_signal_interrupts_at_once(build, trainer_for):
    class KillTwice(Reporter):
        def step(self, state):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer_for(build(), reporter=KillTwice()).train()


def diverging(model, after: int):
    """The model's own loss, which turns into NaN after so many calls."""
    real, calls = model.loss, []

    def loss(batch):
        calls.append(1)
        result = real(batch)
        return result if len(calls) <= after else Loss(result.total * math.nan, {"loss": math.nan})

    return loss


@pytest.mark.parametrize("name", ["diffrec", "sasrec"])
def test_a_loss_of_nan_keeps_the_last_good_checkpoint(build, trainer_for, run, name, monkeypatch):
    model = build(name)
    steps_an_epoch = []

    class Count(Reporter):
        def end_epoch(self, row, state):
            steps_an_epoch.append(1)
            monkeypatch.setattr(model, "loss", diverging(model, after=2))

    with pytest.raises(TrainingDiverged, match=r"nan in epoch 2, step 3 .*learning_rate"):
        trainer_for(model, run=run, reporter=Count()).train()
    assert steps_an_epoch == [1]
    fresh = trainer_for(build(name, seed=9), run=RunFolder.open(run.path))
    fresh.resume()
    assert (fresh.state.epoch, fresh.state.step) == (1, 0)
    assert all(bool(value.isfinite().all()) for value in fresh.model.state_dict().values() if value.is_floating_point())
    assert bool(RunFolder.open(run.path).load_weights()["table.embedding.weight"].isfinite().all())


@pytest.mark.parametrize(
    "settings",
    [{}, {"step_sampling": "uniform"}, {"attention": "shared_history"}],
    ids=["printed", "uniform", "shared"],
)
def test_weights_that_turn_nan_end_as_a_diverged_training(build, trainer_for, run, settings):
    """The loss is NaN because the network is; its own bookkeeping must not trip over that first."""
    model = build(**settings)

    class Break(Reporter):
        def step(self, state):
            if (state.epoch, state.step) == (1, 1):
                with torch.no_grad():
                    next(model.denoiser.encoder.parameters()).fill_(math.nan)

    with pytest.raises(TrainingDiverged, match="epoch 2, step 2"):
        trainer_for(model, run=run, reporter=Break()).train()
    fresh = trainer_for(build(**settings), run=RunFolder.open(run.path))
    fresh.resume()
    assert all(bool(value.isfinite().all()) for value in fresh.model.state_dict().values() if value.is_floating_point())


def test_no_checkpoint_is_written_of_weights_that_a_bad_gradient_broke(build, trainer_for, run):
    """A finite loss may have a gradient that is not; the checkpoint of that step would not be a good one."""
    model = build("sasrec")
    parameter = next(model.encoder.parameters())

    class Break(Reporter):
        def step(self, state):
            if (state.epoch, state.step) == (0, 2):
                parameter.register_hook(lambda gradient: gradient * math.nan)

    with pytest.raises(TrainingDiverged):
        trainer_for(model, run=run, reporter=Break(), checkpoint_minutes=1e-9).train()
    fresh = trainer_for(build("sasrec"), run=RunFolder.open(run.path))
    fresh.resume()
    assert all(bool(value.isfinite().all()) for value in fresh.model.state_dict().values() if value.is_floating_point())


@pytest.mark.parametrize("name", ["popularity", "sasrec"])
def test_a_catalogue_smaller_than_the_usual_cutoffs_trains(build, trainer_for, twelve_items, name):
    """Twelve items have no HR@20, but they have a next item."""
    state = trainer_for(build(name, num_items=12), data=twelve_items, epochs=1).train()
    assert state.epoch == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"epochs": 0}, "epochs"),
        ({"patience": 0}, "patience"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"max_gradient_norm": -1}, "max_gradient_norm"),
        ({"device": "tpu"}, "device"),
        ({"precision": "float16"}, "precision"),
        ({"seed": -1}, "seed"),
        ({"epoch": 5}, "epoch"),
    ],
)
def test_settings_that_train_nothing_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        TrainingConfig(**settings)


def test_a_misspelt_setting_is_told_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"training\.batchsize is not a setting; did you mean training\.batch_size"):
        TrainingConfig.checked({"batchsize": 5}, "training.")
    with pytest.raises(ValueError, match=r"training\.epochs is 0: "):
        TrainingConfig.checked({"epochs": 0}, "training.")
