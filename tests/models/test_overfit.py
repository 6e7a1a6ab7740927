"""A tiny corpus learned by heart: the test that nothing is wired wrongly."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from seqdiffrec.data.batches import cut_windows, epoch_batches
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import MODELS
from tests.shapes import unchecked

T, ITEMS, USERS, LENGTH = 8, 10, 12, 7


def corpus() -> Sequences:
    """Twelve users in two tribes: one walks the catalogue forwards, one backwards. Two items say which."""
    walks = [[(user * 3 + (-1) ** user * place) % ITEMS + 1 for place in range(LENGTH)] for user in range(USERS)]
    starts = np.arange(USERS) * LENGTH
    return Sequences(np.array(walks, dtype=np.int32).flatten(), starts, starts + LENGTH)


@pytest.mark.no_cover  # the lines are those that other tests of models run, and counting them doubles the time
@pytest.mark.parametrize(
    ("name", "epochs", "settings"),
    [
        ("diffrec", 110, {"attention": "bidirectional", "num_steps": 20, "embedding_std": 0.3, "weight_std": 0.3}),
        ("diffrec", 110, {"attention": "shared_history", "num_steps": 20, "embedding_std": 0.2, "weight_std": 0.2}),
        ("sasrec", 40, {"embedding_std": 0.2, "weight_std": 0.2}),
        ("gru4rec", 40, {"embedding_std": 0.2}),
        # BPR holds a target against items that its user never takes, which are few here.
        ("stosa", 40, {"loss": "full", "embedding_std": 0.2}),
        ("vsan", 40, {"embedding_std": 0.2, "weight_std": 0.2}),
        ("duorec", 40, {"embedding_std": 0.2, "weight_std": 0.2}),
        ("cl4srec", 60, {"embedding_std": 0.2, "weight_std": 0.2}),
        ("mfgan", 40, {"embedding_std": 0.2, "weight_std": 0.2, "pretraining_epochs": 10}),
        ("acvae", 60, {"recurrent_size": 32, "latent_size": 32, "embedding_std": 0.2}),
        ("bert4rec", 40, {"last_item_proportion": 0.5, "embedding_std": 0.2, "weight_std": 0.2}),
    ],
)
def test_a_tiny_corpus_is_learned_by_heart(name, epochs, settings):
    torch.manual_seed(0)
    size = {"dropout": 0.0, "hidden_size": 32, "num_layers": 2, "max_length": T}
    known = {key: value for key, value in size.items() if key in MODELS[name].config_class.model_fields}
    model = MODELS[name](MODELS[name].config_class(**{**known, **settings}), ITEMS).train()
    train = corpus()
    model.count_items(train)
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        windows = cut_windows(train, T, shared=model.shares_history, prefixes=True, rng=rng)
        for batch in epoch_batches(train, windows, USERS * (LENGTH - 1), rng):
            with nullcontext() if epoch == 0 else unchecked():
                optimizer.zero_grad()
                model.loss(batch).total.backward()
                optimizer.step()
    # After one item the tribe is open; from the second on the next one is certain. BERT4Rec's training has no sequence
    # that ends before its last item.
    first = LENGTH - 1 if name == "bert4rec" else 2
    users, places = np.meshgrid(np.arange(USERS), np.arange(first, LENGTH), indexing="ij")
    begins, ends = (train.starts[users]).flatten(), (train.starts[users] + places).flatten()
    predicted = model.predict_histories(Sequences(train.items, begins, ends)).argmax(1) + 1
    hit_rate_at_1 = (predicted.numpy() == train.items[ends]).mean()
    assert hit_rate_at_1 == 1
