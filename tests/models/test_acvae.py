"""ACVAE: latent variables and each term of the loss by the formula, sequence by sequence, without raggedness."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch, cut_windows, window_batch
from seqdiffrec.data.corpus import Sequences
from seqdiffrec.models import ACVAE, ACVAEConfig
from seqdiffrec.models.acvae import Adversary, next_in_step
from seqdiffrec.models.recurrent import Steps

T, ITEMS = 9, 11
LISTS = [[3, 4, 5], [7, 1, 2, 3, 9, 8, 8, 10, 11], [2, 5], [6, 6, 1, 4], [11, 10, 9]]
SIZES = {"hidden_size": 6, "recurrent_size": 18, "latent_size": 4, "adversary_size": 5}
each_convolution = pytest.mark.parametrize("convolution", ["causal", "crossed"])


def make(**settings: object) -> ACVAE:
    torch.manual_seed(1)
    model = ACVAE(ACVAEConfig(max_length=T, **{**SIZES, **settings}), ITEMS).eval()
    with torch.no_grad():  # biases too: zeros would hide a missing one
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(-0.4, 0.4)
    return model


def ragged(*lists: list[int]) -> Sequences:
    lengths = np.array([len(one) for one in lists])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    return Sequences(items, np.cumsum(lengths) - lengths, np.cumsum(lengths))


def batch_of(*lists: list[int]) -> RaggedBatch:
    windows = cut_windows(ragged(*lists), T, shared=True, prefixes=True, rng=np.random.default_rng(0))
    return window_batch(ragged(*lists), windows)


def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.double().T + layer.bias.double()


def latent_by_hand(model: ACVAE, items: list[int]) -> tuple[Tensor, Tensor]:
    """Embeddings and z of each place, in float64; the noise is that of zeros, tanh of the bias."""
    x = model.table.embedding.weight[torch.tensor(items)].double()
    part = model.convolution
    causal = model.config.convolution == "causal"
    h = model.gru.double()(x if causal else x + part.embedding_noise.linear.bias.double().tanh())[0]
    model.gru.float()
    noise = part.noise.linear.bias.double().tanh()
    if causal:
        y = F.softplus(linear(part.first, h + noise)) + noise
        size = y.shape[1]
        # Conv1d has (out, in, time); ours reads the oldest first.
        kernel = part.wide.weight.double().view(-1, 5, size).transpose(1, 2)
        y = F.conv1d(y.T[None], kernel, part.wide.bias.double(), padding=4)[0, :, :-4].T
        y = h + F.softplus(linear(part.narrow, F.softplus(y)))
        return x, linear(part.output, y)
    h = h + noise
    vertical = part.vertical.weight.double().view(1, 1, 4, 1)
    over_time = F.conv2d(F.pad(h[None, None], (0, 0, 3, 0)), vertical, part.vertical.bias.double())[0, 0] * h
    horizontal = part.horizontal.weight.double().view(32, 1, 1, 16)
    along = F.relu(F.conv2d(h[None, None], horizontal, part.horizontal.bias.double())[0]).sum(2).T
    return x, linear(part.output, linear(part.mixed, torch.cat([along, h, over_time], 1)).tanh())


def adversary_by_hand(adversary: Adversary, x: Tensor, z: Tensor) -> Tensor:
    h = linear(adversary.enter, torch.cat([x, z], 1))
    for first, second in adversary.inner:
        h = F.elu(h + linear(second, linear(first, h)))
    return linear(adversary.output, h) + z**2 / 2


def contrast_by_hand(model: ACVAE, x: Tensor, z: Tensor) -> Tensor:
    states = model.contrast.gru.double()(torch.cat([x, z], 1))[0]
    model.contrast.gru.float()
    return linear(model.contrast.output, F.gelu(states))[:, 0]


@each_convolution
def test_every_term_of_the_loss(convolution):
    model, batch = make(convolution=convolution, kl_weight=0.3, contrastive_weight=0.7), batch_of(*LISTS)
    torch.manual_seed(4)
    found = model.loss(batch).parts
    torch.manual_seed(4)
    priors = torch.randn(len(batch.targets), 4).double()

    with torch.no_grad():
        known = [latent_by_hand(model, items[:-1]) for items in LISTS]
        # Longest first; z' comes from the next that is long enough, the first where there is none.
        ranked = sorted(range(len(LISTS)), key=lambda row: -len(LISTS[row]))
        terms: dict[str, list[Tensor]] = {"recommendation": [], "divergence": [], "contrastive": [], "adversary": []}
        for row, items in enumerate(LISTS):
            x, z = known[row]
            foreign = torch.zeros_like(z)
            for place in range(len(z)):
                running = [other for other in ranked if len(known[other][1]) > place]
                foreign[place] = known[running[(running.index(row) + 1) % len(running)]][1][place]
            alone = torch.tensor([sum(len(other) > place for _, other in known) == 1 for place in range(len(z))])
            scores = linear(model.table.output, linear(model.decoder, z).tanh())
            scores[:, 0] = -torch.inf
            terms["recommendation"].append(F.cross_entropy(scores, torch.tensor(items[1:]), reduction="none"))
            verdict = adversary_by_hand(model.adversary, x, z)
            terms["divergence"].append(verdict.mean(1))
            drawn, priors = priors[: len(z)], priors[len(z) :]
            apart = -(verdict.sigmoid().log() + (1 - adversary_by_hand(model.adversary, x, drawn).sigmoid()).log())
            terms["adversary"].append(apart.mean(1))
            own, other = contrast_by_hand(model, x, z), contrast_by_hand(model, x, foreign)
            terms["contrastive"].append(-own.sigmoid().log() - (1 - other.sigmoid()).log().masked_fill(alone, 0))
    expected = {name: torch.cat(parts).mean().item() for name, parts in terms.items()}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    weighted = 0.3 * expected["divergence"] + 0.7 * expected["contrastive"]
    assert found["loss"] == pytest.approx(expected["recommendation"] + weighted + expected["adversary"], rel=1e-5)


@each_convolution
def test_the_scores_are_those_of_the_decoded_latent_variable(convolution):
    model = make(convolution=convolution)
    with torch.no_grad():
        z = torch.stack([latent_by_hand(model, items)[1][-1] for items in LISTS if len(items) < T])
        scores = linear(model.table.output, linear(model.decoder, z).tanh())[:, 1:]
    found = model.predict_histories(ragged(*(items for items in LISTS if len(items) < T)))
    torch.testing.assert_close(found.double(), scores.softmax(1), rtol=0, atol=1e-6)


def test_each_side_has_the_gradient_of_its_own_loss_only():
    """As two optimisers would have it, each with the other's weights as they stood."""
    model, batch = make(kl_weight=0.3), batch_of(*LISTS)
    torch.manual_seed(4)
    model.loss(batch).total.backward()
    x, z = model._encode(batch, Steps.of(batch))
    x, z = (one[model._read(batch)] for one in (x, z))
    torch.manual_seed(4)
    own = F.softplus(-model.adversary(x, z)) + F.softplus(model.adversary(x, torch.randn_like(z)))
    of_adversary = list(model.adversary.parameters())
    for parameter, expected in zip(of_adversary, torch.autograd.grad(own.mean(), of_adversary), strict=True):
        torch.testing.assert_close(parameter.grad, expected)

    model.zero_grad()
    x, z = model._encode(batch, Steps.of(batch))
    read = model._read(batch)
    total = model.table.loss(model._decode(z[read]), batch).mean() + 0.3 * model.adversary(x[read], z[read]).mean()
    total = total + 0.1 * model._contrast(x, z, batch, Steps.of(batch))
    total.backward()
    expected = {name: one.grad.to_dense() for name, one in model.named_parameters() if not name.startswith("adversary")}
    model.zero_grad()
    model.loss(batch).total.backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(model.get_parameter(name).grad.to_dense(), gradient, rtol=1e-4, atol=1e-6)


def test_the_adversary_learns_the_divergence_from_the_prior():
    """Against the closed form for a normal posterior of mean 1 and deviation 1/2."""
    torch.manual_seed(0)
    model = make(latent_size=1, hidden_size=2, adversary_size=16, adversary_dropout=0.0)
    optimizer = torch.optim.Adam(model.adversary.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        model._divergence(torch.zeros(512, 2), 1 + torch.randn(512, 1) / 2)[1].backward()
        optimizer.step()
    found = model._divergence(torch.zeros(20000, 2), 1 + torch.randn(20000, 1) / 2)[0].item()
    assert found == pytest.approx(math.log(2) + (1 / 4 + 1 - 1) / 2, abs=0.08)


def test_the_other_sequence_is_the_next_in_length():
    steps = Steps.of(batch_of(*LISTS))  # histories of 2, 8, 1, 3 and 2 items
    other, alone = next_in_step(steps)
    batch = batch_of(*LISTS)
    rows, places = batch.locate_tokens()
    found = {
        (int(rows[token]), int(places[token])): int(rows[steps.order[other[place]]])
        for place, token in enumerate(steps.order)
    }
    assert [found[row, 0] for row in (1, 3, 0, 4, 2)] == [3, 0, 4, 2, 1]
    assert [found[row, 1] for row in (1, 3, 0, 4)] == [3, 0, 4, 1]
    assert (found[1, 2], found[3, 2], found[1, 3]) == (3, 1, 1)
    assert all(int(places[steps.order[other[place]]]) == int(places[token]) for place, token in enumerate(steps.order))
    assert torch.equal(alone[steps.place_of], (rows == 1) & (places > 2))


@each_convolution
def test_noise_is_drawn_in_training_only(convolution):
    model, batch = make(convolution=convolution, dropout=0.0, adversary_dropout=0.0), batch_of(*LISTS)
    quiet = [model.represent(batch, 1) for _ in range(2)]
    assert torch.equal(*quiet)
    noisy = [model.train().represent(batch, 1) for _ in range(2)]
    assert not torch.isclose(*noisy).all(-1).any()


@each_convolution
@pytest.mark.parametrize("place", [1, 3, 5])
def test_no_output_depends_on_its_target_or_later_items(convolution, place):
    items = [3, 4, 5, 6, 7, 8]
    changed = [*items[:place], *(11 - item for item in items[place:])]
    model = make(convolution=convolution)
    with torch.no_grad():
        before, after = (model.predict(batch_of(one), 1) for one in (items, changed))
    assert torch.equal(before[:place], after[:place])
    assert all(not torch.equal(before[r], after[r]) for r in range(place, 5))
