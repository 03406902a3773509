"""How far a backbone is adapted: not at all, its last blocks, low-rank adapters, or all of it."""

import math
from typing import cast

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.errors import Problem, ProtocolError
from tapfm_eval.methods.randomness import seeded
from tapfm_eval.protocol.schema import Adapt, LastBlocks, Lora


class LoraLinear(nn.Module):
    """A frozen linear layer with a trainable low-rank update (Hu et al. 2021, arXiv 2106.09685).

    The update starts at zero, so that an adapted network begins as the published one.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        bound = 1 / math.sqrt(base.in_features)
        down = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(base.weight))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank).to(base.weight))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.base(x)) + (x @ self.down.T) @ self.up.T * self.scale


def adapt_encoder(encoder: TileEncoder, adapt: Adapt, where: str, *seed_parts: int | str) -> None:
    """Marks what of `encoder` trains, in place, and puts adapters in where asked.

    Args:
        encoder: A fresh encoder with its published weights.
        adapt: frozen, full, last blocks or LoRA.
        where: The protocol key, for messages.
        seed_parts: What the adapters' initial weights derive from.
    """
    encoder.requires_grad_(adapt == "full")
    encoder.first_trained_block = 0 if adapt == "full" else encoder.depth
    if isinstance(adapt, LastBlocks):
        if adapt.last_blocks > encoder.depth:
            raise ProtocolError(
                Problem(f"{where}.adapt.last_blocks", f"at most {encoder.depth} (the backbone's depth)",
                        str(adapt.last_blocks), "Use a smaller number, or `adapt: full`.")
            )  # fmt: skip
        encoder.first_trained_block = encoder.depth - adapt.last_blocks
        for block in list(encoder.network.blocks)[encoder.first_trained_block :]:
            block.requires_grad_(True)
        encoder.network.norm.requires_grad_(True)
        encoder.network.fc_norm.requires_grad_(True)
    elif isinstance(adapt, Lora):
        encoder.first_trained_block = 0
        rank, alpha = adapt.lora.rank, adapt.lora.alpha
        scale = (rank if alpha is None else alpha) / rank
        for i, module in enumerate(encoder.network.blocks):
            attention = cast(Attention, cast(Block, module).attn)
            for name in ("qkv", "proj"):
                base = cast(nn.Linear, getattr(attention, name))
                setattr(attention, name, LoraLinear(base, rank, scale, seeded("lora", i, name, *seed_parts)))
