"""Tiles to embeddings and CLS attention in one forward pass, with stochastic depth that the caller decides."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.layers.drop import DropPath
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.errors import BackboneError, Problem

# Graphs of one function that torch.compile may hold: one tile and several, blocks trained and frozen, with a graph and
# without need twelve. Its own limit is eight; beyond it all would run uncompiled, with a warning alone.
COMPILED_GRAPHS = 64
RunBlock = Callable[[Block, Tensor, Tensor | None], Tensor]


class TileEncoder(nn.Module):
    """A ViT that gives each tile its embedding z and one raw attention scalar a.

    a is the CLS token's attention in the last block, averaged over heads and over patch tokens; prefix tokens
    (CLS, registers) are left out. Its values lie near 1/N with a spread around 1e-6, so it is computed in float32
    at least, whatever the autocast type (arXiv 2506.05184; bf16 would make all tiles equal).

    Where the card's embedding is the CLS token (D numbers), only the CLS row of the last block is computed: nothing
    else of that block's output is used. `cls_mean` is the CLS token beside the mean of the normed patch tokens (2 D
    numbers; registers are left out), which needs the whole block. For the other blocks timm's own layers run unchanged.
    """

    def __init__(self, network: VisionTransformer, card: BackboneCard) -> None:
        super().__init__()
        _check_supported(network, card)
        self.network = network
        self.prefix_tokens = int(network.num_prefix_tokens)
        self.depth = len(network.blocks)
        self.mean_of_patches = card.embedding == "cls_mean"
        self.dim = int(network.embed_dim) * (2 if self.mean_of_patches else 1)
        self.first_trained_block = 0  # blocks before it run without a graph; `methods.adaptation` sets it
        self._run_block: RunBlock = _run_block
        self.use_kernels(fused=True, compiled=False)
        self.register_buffer("mean", torch.tensor(card.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(card.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, tiles: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings z (B, D) and raw attention a (B,).

        Args:
            tiles: uint8 (B, 3, H, W), RGB.
            keep: Multipliers of the residual branches (B, depth, 2), 0 or 1/(1-p): stochastic depth as decided by
                the caller per tile and block, so that it replays and does not depend on the batch. None keeps all.
        """
        return self.rest(self.prefix(tiles, keep), keep)

    def prefix(self, tiles: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens (B, prefix + N, width) as the first trained block takes them.

        Where a block is frozen they carry no graph, so that they may be kept and handed to `rest` more than once. The
        last block is never among the frozen ones here: `rest` always runs it.
        """
        network = self.network
        dtype = network.patch_embed.proj.weight.dtype
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.first_trained_block == 0):
            x = (tiles.to(dtype) - self.get_buffer("mean").to(dtype)) / self.get_buffer("std").to(dtype)
            x = network.norm_pre(network._pos_embed(network.patch_embed(x)))  # (B, 3, H, W) -> (B, prefix + N, D)
            return self._blocks(x, keep, 0, self.first_rested_block)

    def rest(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings z (B, D) and raw attention a (B,) from what `prefix` gave."""
        network = self.network
        last = self.depth - 1
        x = self._blocks(x, keep, self.first_rested_block, last)
        block = cast(Block, network.blocks[last])
        update, attention = cls_attention(
            cast(Attention, block.attn), block.norm1(x), self.prefix_tokens, whole=self.mean_of_patches
        )  # (B, T, D), (B,); T is 1 for the CLS row, else all tokens
        kept = None if keep is None else keep[:, last]
        tokens = x[:, : update.shape[1]] + _scaled(block.ls1(update), kept, 0)  # (B, T, D)
        tokens = tokens + _scaled(block.ls2(block.mlp(block.norm2(tokens))), kept, 1)
        tokens = network.fc_norm(network.norm(tokens))
        z = tokens[:, 0]  # (B, D)
        if self.mean_of_patches:
            z = torch.cat([z, tokens[:, self.prefix_tokens :].mean(1)], dim=1)  # (B, 2 D)
        return z if z.dtype == torch.float64 else z.float(), attention

    @property
    def first_rested_block(self) -> int:
        """The first block that `rest` runs: the first trained one, or the last where all are frozen."""
        return min(self.first_trained_block, self.depth - 1)

    def use_kernels(self, *, fused: bool, compiled: bool) -> None:
        """Says how blocks are computed from now on; the choice changes rounding and speed alone.

        Args:
            fused: Attention by torch's fused kernel, else by plain matrix products.
            compiled: Whole blocks through torch.compile.
        """
        for module in self.network.modules():
            if isinstance(module, Attention):
                # timm would ask an environment variable, and a run must not depend on one
                vars(module)["fused_attn"] = fused
        self._run_block = _compiled() if compiled else _run_block

    def _blocks(self, x: Tensor, keep: Tensor | None, start: int, stop: int) -> Tensor:
        try:
            for i in range(start, stop):
                x = self._run_block(cast(Block, self.network.blocks[i]), x, None if keep is None else keep[:, i])
        except RuntimeError as error:
            from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

            if not isinstance(error, TorchDynamoException):
                raise
            said = " ".join(str(error).split("\n\n")[0].split())
            raise BackboneError(
                Problem("training.compile_blocks", "blocks that torch.compile can compile on this machine", said[:160],
                        "State `compile_blocks: false`, or install the compiler that torch asks for.")
            ) from None  # fmt: skip
        return x


def cls_attention(attention: Attention, x: Tensor, prefix_tokens: int, *, whole: bool = False) -> tuple[Tensor, Tensor]:
    """The CLS row of a block's attention: its output (B, 1, D) and its mean weight on patch tokens (B,).

    Costs O(N d) beside the keys and values, instead of the N x N matrix. With `whole` the output is that of all
    tokens (B, N, D). Under autocast this block's queries and keys are made in float32 nevertheless: tiles of a slide
    differ by parts in a million in their attention, which the rounding of bf16 would drown.
    """
    batch, tokens, _ = x.shape
    heads, width = attention.num_heads, attention.head_dim
    lowered = torch.is_autocast_enabled(x.device.type)
    with torch.autocast(x.device.type, enabled=False) if lowered else nullcontext():
        qkv = attention.qkv(x.float() if lowered else x).reshape(batch, tokens, 3, heads, width).permute(2, 0, 3, 1, 4)
        queries = qkv[0] if whole else qkv[0][:, :, :1]
        q, k, v = attention.q_norm(queries), attention.k_norm(qkv[1]), qkv[2]  # (B, h, 1 or N, d), (B, h, N, d) twice
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        cls = q[:, :, :1].to(exact)  # (B, h, 1, d)
        weights = (cls @ k.to(exact).transpose(2, 3) * attention.scale).softmax(-1)  # (B, h, 1, N)
        mean_weight = weights[:, :, 0, prefix_tokens:].mean(dim=(1, 2))  # (B,)
        rows = (weights @ v.to(exact)).to(v.dtype)  # (B, h, 1, d)
    if whole:
        if lowered:
            q, k, v = (tensor.to(torch.get_autocast_dtype(x.device.type)) for tensor in (q, k, v))
        rows = _attended(q, k, v, fused=bool(attention.fused_attn))  # (B, h, N, d)
    rows = rows.transpose(1, 2).reshape(batch, -1, heads * width)  # (B, 1 or N, D)
    return attention.proj(attention.norm(rows)), mean_weight


def _attended(q: Tensor, k: Tensor, v: Tensor, *, fused: bool) -> Tensor:
    if fused:
        return F.scaled_dot_product_attention(q, k, v)
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(2, 3)).softmax(-1)  # (B, h, N, N)
    return cast(Tensor, weights @ v)


def _run_block(block: Block, x: Tensor, keep: Tensor | None) -> Tensor:
    x = x + _scaled(block.ls1(block.attn(block.norm1(x))), keep, 0)
    return x + _scaled(block.ls2(block.mlp(block.norm2(x))), keep, 1)


def _compiled() -> RunBlock:
    from torch._dynamo import config  # takes seconds to import

    torch.compiler.reset()  # what was compiled for another encoder counts too
    limit = (
        "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    )  # the latter up to torch 2.5
    setattr(config, limit, max(COMPILED_GRAPHS, getattr(config, limit)))
    return cast(RunBlock, torch.compile(_run_block))


def _scaled(branch: Tensor, keep: Tensor | None, part: int) -> Tensor:
    return branch if keep is None else branch * keep[:, part].to(branch.dtype).view(-1, 1, 1)


def _check_supported(network: VisionTransformer, card: BackboneCard) -> None:
    """Refuses networks whose forward pass this module would not reproduce exactly."""
    gate = any(getattr(m, "gate", None) is not None for m in network.modules() if isinstance(m, Attention))
    plain = all(type(b) is Block and type(b.attn) is Attention for b in network.blocks)
    dropout = any(isinstance(m, nn.Dropout) and m.p > 0 for m in network.modules())
    # stochastic depth of timm's own would be left out, and another pooling would give another embedding
    other = any(isinstance(m, DropPath | PatchDropout) for m in network.modules()) or network.global_pool != "token"
    if not plain or gate or dropout or other or network.num_prefix_tokens != card.prefix_tokens:
        raise BackboneError(
            Problem(f"backbone {card.name}", f"plain pre-norm ViT blocks and {card.prefix_tokens} prefix tokens",
                    f"{type(network).__name__} with {network.num_prefix_tokens} prefix tokens", "Correct its card.")
        )  # fmt: skip


def trainable_state(module: nn.Module) -> Mapping[str, Tensor]:
    """The parameters that require a gradient, by name, detached and on the CPU."""
    return MappingProxyType(
        {n: p.detach().to("cpu", copy=True).contiguous() for n, p in module.named_parameters() if p.requires_grad}
    )
