"""What every model must hold, whatever it is."""

import re
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from seqdiffrec.data.batches import RaggedBatch, cut_windows, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import MODELS, SequenceModel
from seqdiffrec.models.item_table import TableModel
from seqdiffrec.training import TrainingConfig
from seqdiffrec.training.optimization import make_optimizer
from tests.shapes import unchecked

T, ITEMS = 6, 9
SMALL: dict[str, object] = {
    "max_length": T,
    "hidden_size": 8,
    "num_layers": 1,
    "dropout": 0.4,
    "num_steps": 5,
    "num_seeds": 2,
    "embedding_std": 0.5,
    "weight_std": 0.5,
    "recurrent_size": 8,
    "latent_size": 6,
    "adversary_size": 8,
}
VARIANTS: list[tuple[str, dict[str, object]]] = [(name, {}) for name in MODELS]
VARIANTS += [
    ("diffrec", {"attention": "shared_history"}),
    ("diffrec", {"attention": "shared_history", "inference_steps": 2, "num_layers": 2}),
    ("diffrec", {"noised_items": 3, "num_layers": 2, "inference_steps": 2, "sampler": "ddim", "eta": 0.5}),
    ("diffrec", {"noised_items": "all"}),
    ("diffrec", {"attention": "shared_history", "target_input": "mask", "positions": "from_target"}),
    ("diffrec", {"attention": "shared_history", "noise_draws": 2, "seen_bias": True, "cosine_output": True}),
    ("diffrec", {"attention": "shared_history", "history_skip": True, "num_layers": 2, "inference_steps": 2}),
    ("diffrec", {"attention": "shared_history", "filter_share": 0.7, "filter_width": 3, "num_layers": 2}),
    ("diffrec", {"attention": "shared_history", "linear_bias": True, "num_layers": 2}),
    ("sasrec", {"loss": "sampled", "num_negatives": 40, "cosine_output": True}),
    ("diffrec", {"attention": "shared_history", "loss": "in_batch", "tied_output": False, "seen_bias": True}),
    ("sasrec", {"loss": "bce"}),
    ("sasrec", {"loss": "bce", "negatives_per_target": 3, "tied_output": False, "seen_bias": True}),
    ("sasrec", {"loss": "gbce", "negatives_per_target": 4, "seen_bias": True, "cosine_output": True}),
    ("gru4rec", {"num_layers": 2, "embedding_dropout": 0.2, "hidden_dropout": 0.3}),
    ("gru4rec", {"loss": "bpr_max", "num_negatives": 40, "score_elu": 0.5}),
    ("gru4rec", {"loss": "top1_max", "num_negatives": 40, "tied_output": False, "seen_bias": True}),
    ("diffrec", {"loss": "bpr_max", "num_negatives": 40}),
    ("sasrec", {"seen_bias": True, "label_smoothing": 0.1, "filter_share": 0.3, "filter_width": 3}),
    ("duorec", {"shared_history": True, "contrast": "both", "seen_bias": True}),
    ("cl4srec", {"loss": "sampled", "num_negatives": 40, "position_embedding": False}),
    ("stosa", {"num_layers": 2, "attention_dropout": 0.2, "encode_mean": False, "embedding_std": 0.1}),
    ("stosa", {"loss": "full", "label_smoothing": 0.1, "seen_bias": True}),
    ("vsan", {"num_layers": 2, "num_generative_layers": 2, "kl_weight": 0.5, "anneal_steps": 0, "tied_output": True}),
    ("itemknn", {"num_neighbours": 2, "shrinkage": 3.0, "history_decay": 0.5, "smoothing": 0.0}),
    ("markov", {"smoothing": 0.0}),
    ("bert4rec", {"mask_proportion": 0.6, "last_item_proportion": 0.5, "num_layers": 2}),
    ("bert4rec", {"loss": "sampled", "num_negatives": 40, "tied_output": False, "attention_dropout": 0.1}),
]
VARIANTS += [("acvae", {"convolution": "crossed", "tied_output": True})]
GAME = {"pretraining_epochs": 0, "discriminator_pretraining_epochs": 0, "generator_epochs": 100, "num_generated": 3}
VARIANTS += [("mfgan", {**GAME, "num_buckets": 3, "reward_sharpness": 2.0, "seen_bias": True})]
each_model = pytest.mark.parametrize(("name", "settings"), VARIANTS)
LISTS = [[1, 2, 3, 2], [5], [9, 8, 7, 6, 5, 4, 3, 2], [2, 2], [4, 1, 9]]


def make(name: str, settings: dict[str, object], num_items: int = ITEMS, seed: int = 0) -> SequenceModel:
    config_class = MODELS[name].config_class
    known = {key: value for key, value in SMALL.items() if key in config_class.model_fields}
    torch.manual_seed(seed)
    return MODELS[name](config_class(**{**known, **settings}), num_items)


def ready(name: str, settings: dict[str, object], seed: int = 0) -> SequenceModel:
    """A model in which what starts at nothing is something."""
    model = make(name, settings, seed=seed)
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if part.endswith("seen_bias"):
                parameter.normal_(std=0.05)
    model.count_items(ragged(*LISTS))
    return model


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def training_batch(model: SequenceModel, *lists: list[int]) -> RaggedBatch:
    sequences, rng = ragged(*lists), np.random.default_rng(0)
    windows = cut_windows(sequences, T, shared=model.shares_history, prefixes=True, rng=rng)
    return window_batch(sequences, windows)


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_names_are_the_models_own():
    assert all(model.name == name for name, model in MODELS.items())
    assert {"diffrec", "sasrec", "popularity"} <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_is(name):
    model = MODELS[name]
    assert model.name == model.__name__.lower(), "sdr.SASRec and --model sasrec are the same"
    assert model.paper is None or re.fullmatch(r"[A-Z][^\n]{3,60} (19|20)\d\d", model.paper)
    for text in (model.summary, model.cost):
        assert text and len(text) <= 60 and text == text.strip(" .\n")
    own = {attribute for kind in model.__mro__[: model.__mro__.index(SequenceModel)] for attribute in vars(kind)}
    assert {"name", "config_class", "summary", "paper", "cost"} <= own


@pytest.mark.parametrize("name", MODELS)
def test_settings_of_model_and_training_are_told_apart_by_name(name):
    """From Python they are given together."""
    assert not MODELS[name].config_class.model_fields.keys() & TrainingConfig.model_fields.keys()


@each_model
def test_probabilities_of_all_items(name, settings):
    out = ready(name, settings).predict_histories(ragged(*LISTS))
    assert out.shape == (len(LISTS), ITEMS) and out.dtype == torch.float32
    assert bool((out >= 0).all())
    close(out.sum(1), torch.ones(len(LISTS)))


@each_model
@pytest.mark.parametrize("filter_viewed", [True, False])
def test_the_best_items_are_those_of_the_probabilities(name, settings, filter_viewed):
    model, lists = ready(name, settings), [[], *LISTS, [7, 7, 1]]
    allowed = torch.arange(ITEMS) != 4
    probabilities = model.predict_histories(ragged(*lists)).clone()
    probabilities[:, 4] = -1
    for row, seen in enumerate(lists):
        if filter_viewed:
            probabilities[row, torch.tensor(seen, dtype=torch.int64) - 1] = -1
    wanted = probabilities.sort(dim=1, descending=True, stable=True)
    top = model.top_of_histories(ragged(*lists), 5, allowed, filter_viewed=filter_viewed)
    torch.testing.assert_close(top.probabilities, wanted.values[:, :5], rtol=1e-2, atol=1e-6)
    there = top.probabilities >= 0
    assert torch.equal(top.columns[there], wanted.indices[:, :5][there])


@each_model
def test_the_mean_over_seeds_is_what_is_predicted(name, settings):
    model, lists = ready(name, settings), [[], *LISTS]
    for num_seeds in (1, 3):
        each = model.predict_histories_each_seed(ragged(*lists), num_seeds)
        assert each.shape == (num_seeds if model.draws_noise else 1, len(lists), ITEMS)
        close(each.mean(0), model.predict_histories(ragged(*lists), num_seeds))
        close(each.sum(2), torch.ones(each.shape[:2]))
    if model.draws_noise:
        assert not torch.equal(each[0, 1:], each[1, 1:])
    assert model.predict_histories_each_seed(ragged([], []), 3).shape == (len(each), 2, ITEMS)


@pytest.mark.no_cover  # the lines are those of the loss below, and counting them takes as long as running them
@each_model
def test_column_j_is_item_j_plus_1(name, settings):
    """Trained on one answer, a model gives that answer."""
    if settings.get("loss") == "in_batch":
        pytest.skip("a batch with one answer has no negatives")
    for answer in (1, ITEMS):
        model = make(name, settings).train()
        lists = [[answer if place else item for place in range(4)] for item in range(1, ITEMS + 1)]
        model.count_items(ragged(*lists))
        if optimizer := make_optimizer(model, TrainingConfig(learning_rate=0.05)):
            batch = training_batch(model, *lists)
            for step in range(12):
                with nullcontext() if step == 0 else unchecked():
                    optimizer.zero_grad()
                    model.loss(batch).total.backward()
                    optimizer.step()
        out = model.predict_histories(ragged([2, 3], [answer]))
        assert (out.argmax(1) + 1).tolist() == [answer, answer]


@each_model
def test_batch_mates_and_padding_change_no_score(name, settings):
    model = ready(name, settings)
    together = model.predict_histories(ragged(*LISTS))
    for row, one in enumerate(LISTS):
        close(model.predict_histories(ragged(one))[0], together[row])
    longer = [[(row + place) % ITEMS + 1 for place in range(row % 40)] for row in range(1, 60)]
    close(model.predict_histories(ragged(*LISTS, *longer))[: len(LISTS)], together)


@each_model
def test_the_order_of_the_batch_changes_nothing(name, settings):
    model, order = ready(name, settings), [3, 0, 4, 2, 1]
    straight = model.predict_histories(ragged(*LISTS))
    close(model.predict_histories(ragged(*(LISTS[row] for row in order))), straight[order])


@each_model
def test_no_more_than_the_last_items_are_seen(name, settings):
    model = ready(name, settings)
    if settings.get("seen_bias"):
        return  # knows what lies further back, and nothing else of it
    recent = [[8, 1, 7, 2, 6]]
    assert len(recent[0]) == T - 1
    close(model.predict_histories(ragged([3, 4, 5, *recent[0]])), model.predict_histories(ragged(*recent)))


@each_model
def test_an_empty_history_gets_popularity(name, settings):
    model = ready(name, settings)
    out = model.predict_histories(ragged([], [1, 2], []))
    counts = np.bincount([item for one in LISTS for item in one], minlength=ITEMS + 1)[1:]
    expected = torch.from_numpy(counts / counts.sum()).float()
    close(out[0], expected)
    close(out[2], expected)
    close(out[1], model.predict_histories(ragged([1, 2]))[0])
    close(model.predict_histories(ragged([])), expected[None])


@each_model
def test_asked_twice_it_says_the_same(name, settings):
    """No dropout at inference, also right after training; no random number that the caller would miss."""
    model = ready(name, settings).train()
    before = torch.get_rng_state()
    first, again = (model.predict_histories(ragged(*LISTS)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training


@each_model
def test_a_seed_fixes_the_initial_weights(name, settings):
    one, again, other = (ready(name, settings, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    if list(make(name, settings).parameters()):
        assert not all(torch.equal(value, other[key]) for key, value in one.items())


@each_model
def test_weights_round_trip(name, settings):
    model, twin = ready(name, settings), make(name, settings, seed=5)
    if list(model.parameters()):
        model.train().loss(training_batch(model, *LISTS))  # so that what it records is not empty
    twin.load_state_dict(model.state_dict())
    histories = ragged(*LISTS, [])
    assert torch.equal(twin.predict_histories(histories), model.predict_histories(histories))
    if list(model.parameters()):
        losses = []
        if name in ("duorec", "mfgan"):  # look things up in the training data, which every run has and no state holds
            twin.count_items(ragged(*LISTS))
        for one in (model, twin):
            torch.manual_seed(3)
            losses.append(one.train().loss(training_batch(one, *LISTS)).parts)
        assert losses[0] == losses[1]


@each_model
def test_what_has_a_row_an_item_is_named(name, settings):
    """So that a model with a table can grow (`TableModel.grow_from`)."""
    model = make(name, settings)
    if isinstance(model, TableModel):
        larger = make(name, settings, num_items=ITEMS + 3).state_dict()
        grows = {key for key, value in model.state_dict().items() if value.shape != larger[key].shape}
        assert grows - {"item_counts"} == grows & set(model.by_item)
        model.count_items(ragged(*LISTS))
        more = make(name, settings, num_items=ITEMS + 3)
        more.grow_from(model, ragged([1], [2, 3], [9]))
        assert all(more.state_dict()[key].shape == value.shape for key, value in larger.items())


@each_model
def test_a_catalogue_of_two_items(name, settings):
    model = make(name, settings, num_items=2)
    train = ragged([1, 2, 1], [2, 1])
    model.count_items(train)
    if list(model.parameters()):
        model.train().loss(training_batch(model, [1, 2, 1], [2, 1])).total.backward()
    out = model.predict_histories(ragged([1], [2, 1]))
    assert out.shape == (2, 2)
    close(out.sum(1), torch.ones(2))


@each_model
def test_the_loss_is_a_finite_number_that_falls(name, settings):
    model = ready(name, settings).train()
    parameters = list(model.parameters())
    if not parameters:
        with pytest.raises(NotImplementedError):
            model.loss(training_batch(model, *LISTS))
        return
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.02))
    batch = training_batch(model, *LISTS)
    values = []
    for step in range(20):
        torch.manual_seed(step)
        with nullcontext() if step == 0 else unchecked():
            loss = model.loss(batch)
        assert loss.total.shape == () and loss.parts["loss"] == pytest.approx(loss.total.item())
        assert all(type(value) is float for value in loss.parts.values())
        values.append(loss.parts["loss"])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert np.isfinite(values).all()
    assert np.mean(values[-5:]) < np.mean(values[:5])


@each_model
def test_bfloat16_products_change_the_loss_little(name, settings):
    model = ready(name, settings)
    if not list(model.parameters()):
        return
    batch, losses = training_batch(model, *LISTS), []
    for enabled in (True, False):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(model.loss(batch).total)
    assert losses[0].dtype == torch.float32
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=0.05)
    losses[0].backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    assert gradients and all(one.to_dense().isfinite().all() for one in gradients)


@each_model
def test_what_a_run_is_told_about(name, settings):
    model = ready(name, settings)
    assert model.default_seeds >= 1
    norm = model.embedding_norm()
    assert norm is None or norm > 0
    if norm is not None:
        weight = model.get_parameter("table.embedding.weight")
        expected = float(np.mean([np.linalg.norm(row) for row in weight[1:].detach().numpy()]))
        assert norm == pytest.approx(expected, rel=1e-5)


@each_model
def test_unknown_settings_are_refused(name, settings):
    with pytest.raises(ValueError, match="max_lenght"):
        MODELS[name].config_class(max_lenght=20)
