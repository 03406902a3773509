"""Facts on each backbone, as records: how it is built, what it expects, who may use it. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BIOPTIMUS_MEAN, BIOPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)


@dataclass(frozen=True, slots=True)
class BackboneCard:
    """A ViT tile encoder: architecture, input, licence. Every fact is confirmed, or says `undisclosed`."""

    name: str  # as protocols spell it
    title: str
    hub_id: str  # repository on the Hugging Face hub
    architecture: str  # timm model name
    timm_arguments: Mapping[str, Any]  # further arguments of timm.create_model; plain values only
    mlp: Literal["gelu", "swiglu"]  # `swiglu` passes SwiGLUPacked with SiLU, which must be explicit
    patch_px: int
    prefix_tokens: int  # CLS and registers; left out of the mean attention
    dim: int
    depth: int
    heads: int
    embedding: Literal["cls"]  # which tokens make the tile embedding
    tile_px: int  # input edge
    mpp: float  # scale it was trained at, um/px
    mean: tuple[float, float, float]  # RGB in [0, 1]
    std: tuple[float, float, float]
    parameters: int
    licence: str
    gated: bool  # access has to be requested on the hub
    pretraining: str
    reference: str
    stand_in: bool = field(default=False)  # a small random network for rehearsals


_CARDS = (
    BackboneCard(
        name="uni",
        title="UNI",
        hub_id="MahmoodLab/UNI",
        architecture="vit_large_patch16_224",
        timm_arguments=MappingProxyType({"img_size": 224, "patch_size": 16, "init_values": 1e-5,
                                         "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=16, prefix_tokens=1, dim=1024, depth=24, heads=16,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=303_350_784,
        licence="CC-BY-NC-ND 4.0: non-commercial academic research only; also binds models trained on its outputs",
        gated=True,
        pretraining="Mass-100K: 100,426 H&E slides of MGB and GTEx; TCGA and CPTAC declared excluded",
        reference="Chen et al. 2024, doi:10.1038/s41591-024-02857-3",
    ),
    BackboneCard(
        name="gigapath",
        title="Prov-GigaPath tile encoder",
        hub_id="prov-gigapath/prov-gigapath",
        architecture="vit_giant_patch14_dinov2",
        timm_arguments=MappingProxyType({"img_size": 224, "patch_size": 16, "init_values": 1e-5,
                                         "mlp_ratio": 5.33334}),
        mlp="swiglu",
        patch_px=16, prefix_tokens=1, dim=1536, depth=40, heads=24,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=1_134_953_984,
        licence="Apache-2.0 licence file, gated with a research-only statement: not for clinical care",
        gated=True,
        pretraining="171,189 slides of Providence; other cohorts undisclosed",
        reference="Xu et al. 2024, doi:10.1038/s41586-024-07441-w",
    ),
    BackboneCard(
        name="h-optimus-0",
        title="H-optimus-0",
        hub_id="bioptimus/H-optimus-0",
        architecture="vit_giant_patch14_reg4_dinov2",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334,
                                         "reg_tokens": 4, "no_embed_class": True}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=5, dim=1536, depth=40, heads=24,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=BIOPTIMUS_MEAN, std=BIOPTIMUS_STD,
        parameters=1_134_774_272,
        licence="Apache-2.0",
        gated=False,
        pretraining="more than 500,000 proprietary H&E slides; cohorts undisclosed",
        reference="Bioptimus 2024, model card of bioptimus/H-optimus-0",
    ),
)  # fmt: skip

CARDS: Mapping[str, BackboneCard] = MappingProxyType({card.name: card for card in _CARDS})


def stand_in(card: BackboneCard) -> BackboneCard:
    """The card of a small network that keeps `card`'s patch size, registers, normalisation and layer kinds.

    LayerScale starts at 1 rather than 1e-5, so that random weights already pass signal through the blocks.
    """
    dim, depth, heads = 64, 2, 4
    arguments = dict(card.timm_arguments) | {
        "embed_dim": dim, "depth": depth, "num_heads": heads, "init_values": 1.0, "mlp_ratio": 2.0,
    }  # fmt: skip
    return replace(
        card,
        title=f"stand-in for {card.title}",
        timm_arguments=MappingProxyType(arguments),
        dim=dim,
        depth=depth,
        heads=heads,
        parameters=0,
        licence="none: random weights made here",
        gated=False,
        pretraining="none: random weights",
        stand_in=True,
    )
