"""A run that was cut ends as one that was not, bit for bit."""

import json
from pathlib import Path

import pytest
import torch

from seqdiffrec.models import MODELS
from seqdiffrec.training import RunError, RunFolder, TrainingInterrupted
from tests.shapes import unchecked

SECONDS = ("train_seconds", "validation_seconds")
# A step is 32 targets: four or five steps an epoch.
CUTS = {"at the first step": [1], "mid-epoch": [6], "more than once": [2, 3]}


def metrics(path: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in SECONDS} for row in rows]


def create(path: Path, corpus) -> RunFolder:
    return RunFolder.create(path, {}, corpus, {})


# Warm-up, decay, weight decay and a moving average have a memory, too.
COURSE = {"warmup_epochs": 1.5, "decay": "cosine", "weight_decay": 0.1, "average_rate": 0.9}


# All of MFGAN's phases within two epochs, and changes within an epoch.
GAME = {
    "pretraining_epochs": 0.5,
    "discriminator_pretraining_epochs": 0.3,
    "generator_epochs": 0.4,
    "discriminator_epochs": 0.2,
    "num_buckets": 4,
    "num_generated": 3,
}
SHARED = {"attention": "shared_history"}


CASES: list[tuple[dict[str, object], dict[str, object]]] = [
    ({}, {}),
    (SHARED, {}),
    (SHARED, COURSE),
    ({**SHARED, "loss": "sampled", "num_negatives": 9}, COURSE),
    ({**SHARED, "loss": "in_batch"}, {}),
    ({"name": "vsan", "anneal_steps": 15}, COURSE),
    ({"name": "acvae", "recurrent_size": 8, "latent_size": 6, "adversary_size": 8}, COURSE),
    ({"name": "mfgan", **GAME}, COURSE),
    ({"name": "mfgan", **GAME, "pretraining_epochs": 1, "discriminator_pretraining_epochs": 0}, {"patience": 1}),
]
CASES += [
    ({"name": name}, {})
    for name, model in MODELS.items()
    if not model.cost.startswith("none") and name not in ("diffrec", "vsan", "acvae", "mfgan")
]


@pytest.fixture(scope="module", params=CASES)
def uninterrupted(request, build, trainer_for, tmp_path_factory, corpus):
    """Settings of the model and of its training, and the model and the folder after it."""
    settings, training = request.param
    model, path = build(**settings), tmp_path_factory.mktemp("whole") / "run"
    trainer_for(model, run=create(path, corpus), **training).train()
    return settings, training, model, path


@pytest.mark.parametrize("stops", CUTS.values(), ids=CUTS.keys())
def test_resumed_is_uninterrupted(build, trainer_for, tmp_path, corpus, uninterrupted, stops):
    """Dropout and importance sampling are on: both have a memory that the checkpoint must hold."""
    settings, training, whole, path = uninterrupted
    create(tmp_path / "cut", corpus)
    for number, stop_after in enumerate([*stops, None]):
        model = build(**settings, seed=0 if number == 0 else 40 + number)  # what a new process starts from
        trainer = trainer_for(model, run=RunFolder.open(tmp_path / "cut"), stop_after=stop_after, **training)
        torch.manual_seed(number)
        if number > 0:
            trainer.resume()
        if stop_after is not None:
            with pytest.raises(TrainingInterrupted), unchecked():  # the same shapes as in the whole one
                trainer.train()
    with unchecked():
        trainer.train()

    if model.name == "diffrec":
        assert int(model.step_sampler.counts.min()) >= 10, "importance sampling must have begun"
    for name, value in whole.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert metrics(tmp_path / "cut") == metrics(path)
    files = [RunFolder.open(folder).record for folder in (path, tmp_path / "cut")]
    assert files[0]["weights"] == files[1]["weights"]
    assert files[0]["files"][files[0]["weights"]] == files[1]["files"][files[1]["weights"]]
    assert files[0]["best"] == files[1]["best"]


def test_optimiser_and_state_come_back_exactly(build, trainer_for, run):
    cut = trainer_for(build(), run=run, stop_after=8)
    with pytest.raises(TrainingInterrupted):
        cut.train()
    fresh = trainer_for(build(seed=3), run=RunFolder.open(run.path))
    fresh.resume()
    assert fresh.state == cut.state
    before, after = (trainer.optimizer.state_dict()["state"] for trainer in (cut, fresh))
    assert before.keys() == after.keys() == set(range(len(list(fresh.model.parameters()))))
    for number, moments in before.items():
        assert moments.keys() == after[number].keys() >= {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(value, after[number][name]) for name, value in moments.items())


def test_after_the_last_step_of_an_epoch_its_validation_is_still_done(build, trainer_for, tmp_path, corpus):
    whole = trainer_for(build(), run=create(tmp_path / "whole", corpus), epochs=1)
    whole.train()
    steps = whole.reporter.done
    cut = trainer_for(build(), run=create(tmp_path / "cut", corpus), epochs=1, stop_after=steps)
    with pytest.raises(TrainingInterrupted):
        cut.train()
    assert metrics(tmp_path / "whole") and not (tmp_path / "cut" / "metrics.jsonl").exists()
    fresh = trainer_for(build(seed=4), run=RunFolder.open(tmp_path / "cut"), epochs=1)
    fresh.resume()
    fresh.train()
    assert fresh.reporter.done == 0
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")


def test_a_crash_between_weights_and_checkpoint_changes_nothing(build, trainer_for, tmp_path, corpus, monkeypatch):
    """The weights of an epoch are on disk, its checkpoint is not: the epoch is done again."""
    whole = build()
    trainer_for(whole, run=create(tmp_path / "whole", corpus)).train()

    class Crash(Exception):
        pass

    run = create(tmp_path / "cut", corpus)
    real = run.save_checkpoint

    def crash_in_epoch_2(model, optimizer, average, state):
        if state.epoch == 2:
            raise Crash
        real(model, optimizer, average, state)

    monkeypatch.setattr(run, "save_checkpoint", crash_in_epoch_2)
    with pytest.raises(Crash):
        trainer_for(build(), run=run).train()
    model = build(seed=8)
    fresh = trainer_for(model, run=RunFolder.open(tmp_path / "cut"))
    fresh.resume()
    assert fresh.state.epoch == 1
    fresh.train()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in whole.state_dict().items())
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")


def test_a_finished_run_has_nothing_to_go_on_from(build, trainer_for, run):
    trainer_for(build(), run=run, epochs=1).train()
    opened = RunFolder.open(run.path)
    assert not list(run.path.glob("checkpoint-*"))
    with pytest.raises(RunError, match="its training has ended"):
        trainer_for(build(), run=opened).resume()


def test_checkpoints_come_in_time_and_replace_each_other(build, trainer_for, run):
    cut = trainer_for(build(), run=run, stop_after=4, checkpoint_minutes=1e-9)
    names: list[list[str]] = []
    real = cut.reporter.step

    def step(state):
        names.append(sorted(path.name for path in run.path.glob("checkpoint-*")))
        real(state)

    cut.reporter.step = step
    with pytest.raises(TrainingInterrupted):
        cut.train()
    assert [len(one) for one in names] == [0, 1, 1, 1]
    assert len({one[0] for one in names[1:]}) == 3
