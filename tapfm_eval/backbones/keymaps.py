"""Names of a checkpoint's tensors in another library's layout, tensor by tensor of the timm network. No torch here.

The layouts are those of the classes of Hugging Face transformers: `vit` is ViTModel, `dinov2` Dinov2Model and
`dinov2_registers` Dinov2WithRegistersModel. They hold the same networks as timm's, under other names and with query,
key and value apart; a checkpoint is therefore read through a table, and no code that comes with it is run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Layout = Literal["timm", "vit", "dinov2", "dinov2_registers"]

_QKV = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))
_LINEAR = ("weight", "bias")
_BLOCK: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {  # module of a timm block -> modules of the checkpoint's layer; both have a weight and a bias
        "vit": {"norm1": ("layernorm_before",), "norm2": ("layernorm_after",),
                "mlp.fc1": ("intermediate.dense",), "mlp.fc2": ("output.dense",)},
        "dinov2": {"norm1": ("norm1",), "norm2": ("norm2",)},
    }
)  # fmt: skip
_MLP: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "gelu": {"mlp.fc1": ("mlp.fc1",), "mlp.fc2": ("mlp.fc2",)},
        # gate and value lie in the same order in both, so the packed matrix is taken as it is
        "swiglu": {"mlp.fc1": ("mlp.weights_in",), "mlp.fc2": ("mlp.weights_out",)},
    }
)


@dataclass(frozen=True, slots=True)
class KeyMap:
    """Where each tensor of a timm network comes from."""

    sources: Mapping[str, tuple[str, ...]]  # timm name -> names in the checkpoint, joined along the first axis
    dropped: frozenset[str]  # tensors of the checkpoint that no embedding depends on
    folds_position: bool
    """The checkpoint has a position for the CLS token, timm's network has none: it is added to the token itself."""


def key_map(layout: Layout, depth: int, mlp: Literal["gelu", "swiglu"]) -> KeyMap | None:
    """The map of a checkpoint's `layout` to a timm network of `depth` blocks; None if it is timm's own already."""
    if layout == "timm":
        return None
    modules: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": ("embeddings.patch_embeddings.projection",),
        "norm": ("layernorm",),
    }
    family = "vit" if layout == "vit" else "dinov2"
    block = {"attn.qkv": _QKV, "attn.proj": ("attention.output.dense",), **_BLOCK[family]}
    if family == "dinov2":
        block |= _MLP[mlp]
    sources: dict[str, tuple[str, ...]] = {
        "cls_token": ("embeddings.cls_token",),
        "pos_embed": ("embeddings.position_embeddings",),
    }
    if layout == "dinov2_registers":
        sources["reg_token"] = ("embeddings.register_tokens",)
    for i in range(depth):
        modules |= {
            f"blocks.{i}.{name}": tuple(f"encoder.layer.{i}.{part}" for part in parts) for name, parts in block.items()
        }
        if family == "dinov2":
            sources |= {f"blocks.{i}.ls{j}.gamma": (f"encoder.layer.{i}.layer_scale{j}.lambda1",) for j in (1, 2)}
    for name, parts in modules.items():
        sources |= {f"{name}.{kind}": tuple(f"{part}.{kind}" for part in parts) for kind in _LINEAR}
    dropped = frozenset({"embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"})
    return KeyMap(MappingProxyType(sources), dropped, folds_position=layout == "dinov2_registers")
