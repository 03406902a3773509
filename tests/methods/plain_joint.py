"""The judge of the adaptation step: one graph over the whole bag, written out the obvious way."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.methods.aggregator import Aggregator


def plain_encode(encoder: TileEncoder, tiles: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
    """z (K, D) and a (K,) with the full N x N attention of every block."""
    network, prefix = encoder.network, encoder.network.num_prefix_tokens
    x = (tiles.double() - encoder.get_buffer("mean")) / encoder.get_buffer("std")
    x = network._pos_embed(network.patch_embed(x))  # (K, N, D)
    attention = torch.empty(0)
    for i, block in enumerate(network.blocks):
        update, attention = full_attention(block.attn, block.norm1(x))
        first, second = (1.0, 1.0) if keep is None else (keep[:, i, 0, None, None], keep[:, i, 1, None, None])
        x = x + first * block.ls1(update)
        x = x + second * block.ls2(block.mlp(block.norm2(x)))
    normed = network.norm(x)
    z = normed[:, 0]
    if encoder.mean_of_patches:
        z = torch.cat([z, normed[:, prefix:].mean(dim=1)], dim=1)
    return z, attention[:, :, 0, prefix:].mean(dim=(1, 2))


def full_attention(attention: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """A block's attention: its output (K, N, D) and the weights (K, heads, N, N)."""
    tokens, heads = x.shape[1], attention.num_heads
    q, k, v = attention.qkv(x).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # each (K, heads, N, d)
    weights = torch.softmax(torch.einsum("khid,khjd->khij", q, k) / q.shape[-1] ** 0.5, dim=-1)
    row = torch.einsum("khij,khjd->kihd", weights, v).reshape(len(x), tokens, -1)
    return attention.proj(row), weights


def joint_step(
    encoder: TileEncoder,
    aggregator: Aggregator,
    loss_of: Callable[[Tensor], Tensor],
    tiles: Tensor,
    keep: Tensor | None,
    lambda_attention: float,
) -> float:
    """Ordinary back-propagation through tiles, attention and aggregator at once; adds to all gradients.

    The backbone's share of the attention gradient is scaled by lambda; the aggregator sees attention as it is.
    """
    z, a = plain_encode(encoder, tiles, keep)
    seen = a.detach() + lambda_attention * (a - a.detach())
    loss = loss_of(aggregator(z, seen).logits)
    loss.backward()
    return float(loss.detach())
