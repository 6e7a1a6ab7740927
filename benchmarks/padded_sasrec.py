"""The reference: a SASRec training step as one writes it with torch's own parts, padded, one target a row."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqdiffrec.data.batches import RaggedBatch
from seqdiffrec.models import SASRecConfig


class PaddedSASRec(nn.Module):
    """nn.TransformerEncoder over rows padded to T at the end, where a causal mask keeps padding out of sight."""

    def __init__(self, config: SASRecConfig, num_items: int):
        super().__init__()
        size = config.hidden_size
        self.item = nn.Embedding(num_items + 1, size, padding_idx=0)
        self.position = nn.Embedding(config.max_length, size)
        self.norm, self.dropout = nn.LayerNorm(size), nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(
            size,
            config.num_heads,
            size * config.feed_forward_factor,
            config.dropout,
            activation=config.activation,
            batch_first=True,
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_layers)
        mask = nn.Transformer.generate_square_subsequent_mask(config.max_length)
        self.register_buffer("mask", mask, persistent=False)
        nn.init.normal_(self.item.weight, std=config.embedding_std)

    def loss(self, histories: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of each row's target over all items, read at the row's last item.

        histories: int64 (B, T), zeros at the end; targets: int64 (B,).
        """
        x = self.dropout(self.norm(self.item(histories) + self.position.weight))
        x = self.encoder(x, mask=self.mask, is_causal=True)
        last = (histories != 0).sum(1) - 1
        h = x[torch.arange(len(x), device=x.device), last]
        return F.cross_entropy(h @ self.item.weight[1:].T, targets - 1)


def padded(batch: RaggedBatch, length: int) -> Tensor:
    """The histories of a batch with one target a row, as int64 (B, length) with zeros at the end."""
    rows, places = batch.locate_tokens()
    histories = torch.zeros(len(batch.targets), length, dtype=torch.int64, device=batch.tokens.device)
    histories[rows, places] = batch.tokens
    return histories
