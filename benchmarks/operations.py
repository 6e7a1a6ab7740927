"""How many operations a training step or a ranking needs, counted from the shapes of its batch.

The count, in floating-point operations (a multiply and an add are two), for one forward pass:

- each place that goes through a layer whole: 2 (4 + 2 f) d^2; query, key, value and output are d x d each, the two
  feed-forward matrices d x f d each. With f = 4 that is 24 d^2, twice the 12 d^2 weights;
- in the last layer the places that nobody reads give their key and value only: 4 d^2;
- each pair of a place and one that it sees: 4 d a layer (the score, and the weighted sum);
- each target: 2 d V, the softmax over all V items.

A training step is three forward passes: the backward pass takes two. Norms, activations, embeddings, exponentials and
the optimiser are left out, as is usual, so a share of the machine's speed computed from this count is a lower bound.
"""

from dataclasses import dataclass

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models import DiffRec, SASRec, SequenceModel
from seqdiffrec.models.denoiser import SharedHistoryDenoiser
from seqdiffrec.models.encoder import EncoderConfig


@dataclass(frozen=True)
class Work:
    """What one batch puts through the encoder.

    targets: rows of the softmax.
    places: places in every layer but the last; read: those that also go through the last one whole.
    pairs, read_pairs: (place, place that it sees) in a layer but the last, and in the last.
    spared: places of those above whose queries, keys and values another draw has computed for the first layer.
    """

    targets: int
    places: int
    read: int
    pairs: int
    read_pairs: int
    spared: int = 0


def training_flop(work: Work, config: EncoderConfig, num_items: int) -> int:
    """Floating-point operations of one training step: three forward passes."""
    return 3 * forward_flop(work, config, num_items)


def forward_flop(work: Work, config: EncoderConfig, num_items: int) -> int:
    """Floating-point operations of one forward pass, by the count above; a ranking is no more than that."""
    d, inner = config.hidden_size, config.num_layers - 1
    whole = 2 * (4 + 2 * config.feed_forward_factor) * d**2
    key_value = 4 * d**2
    places = inner * work.places * whole + work.read * whole + (work.places - work.read) * key_value
    attention = 4 * d * (inner * work.pairs + work.read_pairs)
    spared = work.spared * (6 * d**2 if inner else key_value)
    return places - spared + attention + work.targets * 2 * d * num_items


def work_of(model: SequenceModel, batch: RaggedBatch, draws: int = 1) -> Work:
    """What a batch puts through SASRec, or through DiffRec with only the target noised; each target so many times.

    A shared history goes through once for all draws; with the printed attention all places see the noised target.
    Where the history's own states are wanted, too, the newest item of each target is read besides.
    """
    history, targets = len(batch.tokens), len(batch.targets)
    seen = int(batch.places.sum())  # items that the targets see, their own place not counted
    causal = int((batch.locate_tokens()[1] + 1).sum())
    if isinstance(model, SASRec):  # the place of the item before a target is the one that is read
        return Work(targets, history, targets, causal, seen)
    assert isinstance(model, DiffRec) and model.config.noised_items == 1
    newest = targets * (isinstance(model.denoiser, SharedHistoryDenoiser) and model.denoiser.reads_history)
    newest_seen = seen if newest else 0
    targets, seen = draws * targets, draws * seen
    if model.shares_history:
        read_pairs = newest_seen + seen + targets
        return Work(targets, history + targets, newest + targets, causal + seen + targets, read_pairs)
    pairs = draws * int(((batch.lengths + 1) ** 2).sum())
    return Work(targets, draws * history + targets, targets, pairs, seen + targets, (draws - 1) * history)


def padded_work(rows: int, length: int) -> Work:
    """What a batch of rows padded to `length` puts through an encoder that computes every place, masked or not."""
    return Work(rows, rows * length, rows * length, rows * length**2, rows * length**2)
