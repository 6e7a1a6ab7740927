"""MFGAN: factors, verdicts, reward, policy gradient against its enumerated expectation, and whose turn it is."""

import logging

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

import seqdiffrec as sdr
from seqdiffrec.data import Dataset
from seqdiffrec.data.batches import RaggedBatch, cut_windows, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import MFGAN, MFGANConfig, SASRec
from seqdiffrec.models.mfgan import buckets, mean_places, most_frequent
from seqdiffrec.models.settings import SettingError

T, ITEMS = 6, 8
LISTS = [[1, 2, 3, 2], [5, 4], [8, 7, 6, 5, 4, 3], [2, 2], [4, 1, 8]]
CATEGORIES = [["a"], ["b", "a"], None, ["c", "a"], ["b"], ["a"], [], ["c"]]
NOW = {"pretraining_epochs": 0, "discriminator_pretraining_epochs": 0, "dropout": 0.0}


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def batch_of(*lists: list[int]) -> RaggedBatch:
    windows = cut_windows(ragged(*lists), T, shared=True, prefixes=True, rng=np.random.default_rng(0))
    return window_batch(ragged(*lists), windows)


def make(categories: list[list[str] | None] | None = CATEGORIES, **settings: object) -> MFGAN:
    torch.manual_seed(1)
    small = {"hidden_size": 8, "num_layers": 1, "embedding_std": 0.5, "weight_std": 0.5, "num_buckets": 3}
    model = MFGAN(MFGANConfig(max_length=T, **{**small, "discriminator_dropout": 0.0, **settings}), ITEMS)
    model.describe_items(categories)
    model.count_items(ragged(*LISTS))
    return model


def test_buckets_hold_as_many_items_each_and_equal_ones_together():
    assert buckets(np.array([5.0, 1, 1, 9, 2, 7]), 3)[:, 0].tolist() == [2, 1, 1, 3, 2, 3]
    assert buckets(np.array([4.0, 4, 4, 4]), 2)[:, 0].tolist() == [1, 1, 1, 1]


def test_recency_is_the_mean_place_in_peoples_sequences():
    found = mean_places(ragged([1, 2, 3], [3, 1], [2]), 4)
    assert found.tolist() == pytest.approx([(0 + 1) / 2, (0.5 + 0) / 2, (1 + 0) / 2, 0])


def test_categories_become_numbers_and_rare_ones_are_left_out():
    assert most_frequent(CATEGORIES, 9).tolist() == [[1, 0], [2, 1], [0, 0], [3, 1], [2, 0], [1, 0], [0, 0], [3, 0]]
    assert most_frequent(CATEGORIES, 1).tolist() == [[1], [1], [0], [1], [0], [1], [0], [0]]


def test_a_verdict_is_that_of_the_sequence_alone():
    """Whatever else is judged beside it; over (history, candidate) one after the other."""
    model, batch = make().eval(), batch_of(*LISTS)
    picked = torch.tensor([[1, 8, 3]]).expand(len(batch.targets), -1)
    with torch.no_grad():
        verdicts = model._judge(batch, picked)
        assert verdicts.shape == (4, len(batch.targets), 3)
        for target in range(len(batch.targets)):
            start, place = int(batch.offsets[batch.rows[target]]), int(batch.places[target])
            for number, candidate in enumerate((1, 8, 3)):
                items = torch.tensor([*batch.tokens[start : start + place].tolist(), candidate])
                is_last = torch.arange(place + 1) == place
                for factor, one in enumerate(model.discriminators.values()):
                    alone = one(items, torch.zeros_like(items), torch.arange(place + 1), is_last)
                    assert verdicts[factor, target, number].item() == pytest.approx(alone.item(), abs=1e-5)


def test_a_discriminator_sees_one_factor_of_all_places_and_no_more():
    model = make().eval()
    popularity = model.discriminators["popularity"]
    assert popularity.values[:, 0].tolist() == [0, *buckets(model.item_counts.numpy().astype(float), 3)[:, 0].tolist()]
    same = next((a, b) for a in range(1, 9) for b in range(1, a) if popularity.values[a] == popularity.values[b])
    other = next(a for a in range(1, 9) if popularity.values[a] != popularity.values[same[0]])
    batch = batch_of([same[0], 3, 4])
    with torch.no_grad():
        first, again, changed = (
            model._judge(batch_of([item, 3, 4]), batch.targets[:, None])[:, 1, 0] for item in (*same, other)
        )
    factors = list(model.discriminators)
    assert first[factors.index("popularity")].item() == pytest.approx(again[factors.index("popularity")].item())
    assert not torch.isclose(first, changed)[factors.index("popularity")], "the first place counts at the last one"
    assert not torch.isclose(first, again)[factors.index("item")]


@pytest.mark.parametrize("sharpness", [0.0, 3.0])
def test_the_policy_term_is_minus_reward_times_log_probability(monkeypatch, sharpness):
    model, batch = make(num_generated=2, reward_sharpness=sharpness, **NOW), batch_of(*LISTS[1:2])
    picked: list[Tensor] = []
    logits = torch.tensor([[[0.3, -1.0]], [[2.0, 0.5]]])  # two factors, one target, two draws

    def judge(asked: RaggedBatch, items: Tensor) -> Tensor:
        picked.append(items)
        return logits

    monkeypatch.setattr(model, "_judge", judge)
    found = model.loss(batch).parts
    verdicts = 1 / (1 + np.exp(-logits.double().numpy()))
    weights = np.exp(sharpness * verdicts) / np.exp(sharpness * verdicts).sum(0)
    reward = (weights * verdicts).sum(0)[0]
    with torch.no_grad():
        log_probability = model.predict(batch, 1)[0, picked[0][0] - 1].double().log().numpy()
    assert found["reward"] == pytest.approx(reward.mean(), rel=1e-5)
    assert found["policy"] == pytest.approx(-(reward * log_probability).mean(), rel=1e-5)
    assert found["loss"] == pytest.approx(found["recommendation"] + found["policy"], rel=1e-6)


def test_its_gradient_is_that_of_the_expected_reward(monkeypatch):
    """Enumerated over all items; the mean over many draws comes near."""
    model, batch = make(num_generated=1000, likelihood_weight=0.0, generator_epochs=1000, **NOW), batch_of(*LISTS[1:2])
    reward = torch.linspace(0.05, 0.95, ITEMS)
    monkeypatch.setattr(model, "_judge", lambda asked, items: torch.logit(reward)[items - 1][None])
    model.table.embedding.sparse = False
    parameters = [one for name, one in model.named_parameters() if not name.startswith("discriminators")]
    expected = torch.autograd.grad(-(model.predict(batch, 1)[0] * reward).sum(), parameters, allow_unused=True)
    total = [torch.zeros_like(one) for one in parameters]
    times = 40
    for draw in range(times):
        torch.manual_seed(draw)
        found = torch.autograd.grad(model.loss(batch).total, parameters, allow_unused=True)
        for sum_, one in zip(total, found, strict=True):
            if one is not None:
                sum_ += one / times
    known = [(sum_, one) for sum_, one in zip(total, expected, strict=True) if one is not None]
    found_all, expected_all = (torch.cat([one.flatten() for one in side]) for side in zip(*known, strict=True))
    assert expected_all.norm() > 0.01
    assert (found_all - expected_all).norm() < 0.1 * expected_all.norm()


def test_discriminators_learn_by_binary_cross_entropy_of_true_and_drawn_items(monkeypatch):
    model, batch = make(num_generated=2, generator_epochs=1e-9, **NOW), batch_of(*LISTS[1:2])
    model.targets_trained.fill_(1)
    judged: list[Tensor] = []

    def judge(asked: RaggedBatch, items: Tensor) -> Tensor:
        judged.append(items)
        return torch.tensor([[[0.3, -1.0, 2.0]], [[0.1, 0.5, -0.7]]], requires_grad=True)

    monkeypatch.setattr(model, "_judge", judge)
    found = model.loss(batch)
    assert judged[0][0, 0] == batch.targets[0]
    by_hand = 0.0
    for real, first, second in ((0.3, -1.0, 2.0), (0.1, 0.5, -0.7)):
        sigma = [1 / (1 + np.exp(-logit)) for logit in (real, first, second)]
        by_hand += -np.log(sigma[0]) - (np.log(1 - sigma[1]) + np.log(1 - sigma[2])) / 2
    assert found.parts["loss"] == pytest.approx(by_hand, rel=1e-5)


def test_phases_follow_one_another_by_targets_trained():
    schedule = {"pretraining_epochs": 2, "discriminator_pretraining_epochs": 1}
    model = make(generator_epochs=3, discriminator_epochs=0.5, **schedule)
    assert model.targets_an_epoch == sum(len(one) - 1 for one in LISTS)
    expected = ["pretraining"] * 2 + ["discriminators"] + ["generator"] * 3
    expected += ["discriminators"]  # half of this epoch
    batch = batch_of(*LISTS)
    early = []
    for phase in expected:
        assert model.phase() == phase
        model.loss(batch)
        early.append(model.is_pretraining)
    assert early == [True] * 3 + [False] * 4, "from the generator's first turn on it is the game"
    assert model.phase() == "generator"
    model.eval().loss(batch)
    assert model.targets_trained == 7 * model.targets_an_epoch, "what is asked of it outside of training is no step"


def test_only_the_side_whose_turn_it_is_has_gradients():
    batch = batch_of(*LISTS)
    for past, side in ((0, "pretraining"), (1, "discriminators"), (2, "generator")):
        model = make(pretraining_epochs=1, discriminator_pretraining_epochs=1)
        model.targets_trained.fill_(past * model.targets_an_epoch)
        assert model.phase() == side
        model.loss(batch).total.backward()
        moved = {name.split(".")[0] for name, one in model.named_parameters() if one.grad is not None}
        assert moved == ({"discriminators"} if side == "discriminators" else {"table", "position", "encoder"})


def test_discriminators_have_no_dropout_but_their_own():
    """Whatever the generator has: without its own, two verdicts in training are the same; with it, they are not."""
    generators = {"attention_dropout": 0.5, "inner_dropout": 0.5, "attention_output_dropout": 0.6, "dropout": 0.5}
    batch = batch_of(*LISTS)
    for rate in (0.0, 0.5):
        model = make(**generators, discriminator_dropout=rate).train()
        first, again = (model._judge(batch, batch.targets[:, None]) for _ in range(2))
        assert torch.equal(first, again) == (rate == 0)
        layer = model.discriminators["item"].encoder.layers[0]
        assert [layer.attention_rate, layer.output_rate, layer.inner_rate, layer.rate] == [rate, 0, rate, rate]
        assert model.encoder.layers[0].output_rate == 0.6


def test_a_state_from_before_epochs_were_counted_in_it():
    model, later = make(), make()
    old = {name: value for name, value in model.state_dict().items() if name != "targets_an_epoch"}
    old["targets_trained"] = torch.tensor(30)
    later.load_state_dict(old)
    later.start_epoch(4)
    assert later.targets_trained == 30 and later.targets_an_epoch == 4


def test_epochs_that_are_done_stay_done_when_those_to_come_are_shorter():
    model = make(pretraining_epochs=3, discriminator_pretraining_epochs=1, generator_epochs=2)
    model.targets_trained.fill_(3 * model.targets_an_epoch + model.targets_an_epoch // 2)
    assert model.phase() == "discriminators"
    model.start_epoch(4)
    assert model.targets_trained == 14 and model.phase() == "discriminators"
    model.start_epoch(4)
    assert model.targets_trained == 14


def test_pretraining_is_sasrec():
    model, batch = make(dropout=0.0), batch_of(*LISTS)
    sasrec = SASRec(model.config, ITEMS)
    sasrec.load_state_dict({key: value for key, value in model.state_dict().items() if key in sasrec.state_dict()})
    torch.testing.assert_close(model.loss(batch).total, sasrec.loss(batch).total)


def test_discriminators_find_the_generator_out_and_it_learns_to_deceive():
    """What is taken is always popular: an untrained generator is told apart, and is drawn to popular items by that."""
    lists = [[1 + (user + place) % 2 for place in range(5)] for user in range(20)] + [[3, 4], [5, 6], [7, 8]]
    torch.manual_seed(0)
    model = MFGAN(
        MFGANConfig(
            max_length=T,
            hidden_size=8,
            num_layers=1,
            num_buckets=2,
            factors=("popularity",),
            pretraining_epochs=0,
            discriminator_pretraining_epochs=20,
            generator_epochs=1000,
            likelihood_weight=0.0,
            dropout=0.0,
        ),
        ITEMS,
    )
    model.describe_items(None)
    model.count_items(ragged(*lists))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    popular = lambda: model.predict_histories(ragged([1, 2]))[0, :2].sum().item()  # noqa: E731
    before, verdicts = popular(), []
    batch = batch_of(*lists[:20])
    for _ in range(60):
        model.train()
        optimizer.zero_grad()
        loss = model.loss(batch)
        verdicts.append(loss.parts.get("discriminators", 0.0))
        loss.total.backward()
        optimizer.step()
    assert verdicts[19] < 0.8 * verdicts[0]
    assert popular() > before + 0.2


def test_without_categories_it_runs_on_two_factors_and_says_so(caplog):
    log = pl.DataFrame({"user_id": [1] * 4 + [2] * 4, "item_id": [1, 2, 3, 4, 2, 3, 4, 5]})
    small = {"hidden_size": 8, "num_layers": 1, "max_length": T, "epochs": 1, "pretraining_epochs": 0}
    with caplog.at_level(logging.WARNING, "seqdiffrec"):
        model = sdr.MFGAN(**small).fit(Dataset.from_interactions(log)).model
    assert "MFGAN runs on 2 factors: popularity and recency, beside the items themselves" in caplog.text
    assert model.discriminators["categories"].values is None
    caplog.clear()
    items = pl.DataFrame({"item_id": [1, 2, 3, 4, 5], "category": ["a", "b|a", "b", "b", "b"]})
    with caplog.at_level(logging.WARNING, "seqdiffrec"):
        model = sdr.MFGAN(**small).fit(Dataset.from_interactions(log, items=items)).model
    assert "factors" not in caplog.text
    assert model.discriminators["categories"].values.tolist() == [[0, 0], [2, 0], [1, 2], [1, 0], [1, 0], [1, 0]]
    for factors, told in (
        (["item", "categories"], "runs on the items themselves alone"),
        (["categories", "popularity"], "runs on 1 factor: popularity"),
        (["recency", "categories", "item"], "runs on 1 factor: recency, beside the items themselves"),
        (["recency", "categories", "popularity"], "runs on 2 factors: popularity and recency"),
    ):
        caplog.clear()
        make(None, factors=factors)
        assert caplog.messages[0].endswith(f"so MFGAN {told}")
    with pytest.raises(SettingError, match=r"nothing to judge by; bring them, or name more model\.factors"):
        sdr.MFGAN(factors=["categories"], **small).fit(Dataset.from_interactions(log))
