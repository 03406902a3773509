"""Facts on each backbone, as records: how it is built, what it expects, who may use it. No torch here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from tapfm_eval.backbones.keymaps import Layout

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF_MEAN, HALF_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
HIBOU_MEAN, HIBOU_STD = (0.7068, 0.5755, 0.7220), (0.1950, 0.2316, 0.1816)
BIOPTIMUS_MEAN, BIOPTIMUS_STD = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)

Exposure = Literal["included", "excluded", "undisclosed"]
"""Whether a programme's slides were in the pretraining data, as its owner declares it."""
ANY_PROGRAMME = "*"


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
    dim: int  # of the tile embedding
    depth: int
    heads: int
    embedding: Literal["cls", "cls_mean"]  # CLS token, or CLS beside the mean of the patch tokens (no registers)
    tile_px: int  # input edge
    mpp: float  # scale of its input, um/px; 0.5 where its source says 20x
    mean: tuple[float, float, float]  # RGB in [0, 1]
    std: tuple[float, float, float]
    parameters: int
    licence: str
    gated: bool  # access has to be requested on the hub
    pretraining: str
    reference: str
    layout: Layout = field(default="timm")  # names of the published tensors
    norm_epsilon: float = field(default=1e-6)  # of every LayerNorm
    pretraining_cohorts: Mapping[str, Exposure] = field(default_factory=lambda: MappingProxyType({}))
    """Programme (`TCGA`, `CPTAC`, ...) -> declared state; `*` speaks for all others; silence is undisclosed."""
    forbids_clinical_use: bool = field(default=False)  # licence or gate allows research only
    forbids_commercial_use: bool = field(default=False)
    stand_in: bool = field(default=False)  # a small random network for rehearsals

    @property
    def width(self) -> int:
        """Length of a token inside the network."""
        return self.dim // 2 if self.embedding == "cls_mean" else self.dim

    def exposure(self, programme: str) -> Exposure:
        """Whether the slides of `programme` were seen in pretraining; silence is `undisclosed`, never `excluded`."""
        declared = self.pretraining_cohorts
        return declared.get(programme, declared.get(ANY_PROGRAMME, "undisclosed"))


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
        pretraining_cohorts=MappingProxyType({"MGB": "included", "GTEx": "included", "TCGA": "excluded",
                                              "CPTAC": "excluded", "PAIP": "excluded", "CAMELYON": "excluded",
                                              "PANDA": "excluded"}),
        forbids_clinical_use=True,
        forbids_commercial_use=True,
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
        pretraining_cohorts=MappingProxyType({"Providence": "included"}),
        forbids_clinical_use=True,
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
    BackboneCard(
        name="uni2-h",
        title="UNI2-h",
        hub_id="MahmoodLab/UNI2-h",
        architecture="vit_giant_patch14_224",
        timm_arguments=MappingProxyType({"img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24,
                                        "embed_dim": 1536, "init_values": 1e-5, "mlp_ratio": 5.33334,
                                        "no_embed_class": True, "reg_tokens": 8, "dynamic_img_size": True}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=9, dim=1536, depth=24, heads=24,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=681_394_176,
        licence="CC-BY-NC-ND 4.0: non-commercial academic research only; also binds models trained on its outputs",
        gated=True,
        pretraining="more than 200,000,000 tiles of 350,000 slides, H&E and IHC; cohorts undisclosed",
        reference="MahmoodLab 2025, model card of MahmoodLab/UNI2-h",
        forbids_clinical_use=True,
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="h-optimus-1",
        title="H-optimus-1",
        hub_id="bioptimus/H-optimus-1",
        architecture="vit_giant_patch14_reg4_dinov2",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334, "reg_tokens": 4,
                                        "no_embed_class": True}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=5, dim=1536, depth=40, heads=24,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=BIOPTIMUS_MEAN, std=BIOPTIMUS_STD,
        parameters=1_134_774_272,
        licence="CC-BY-NC-ND 4.0: non-commercial academic research only; also binds models trained on its outputs",
        gated=True,
        pretraining="more than 1,000,000 H&E slides of 800,000 patients; cohorts undisclosed",
        reference="Bioptimus 2025, model card of bioptimus/H-optimus-1",
        forbids_clinical_use=True,
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="h0-mini",
        title="H0-mini",
        hub_id="bioptimus/H0-mini",
        architecture="vit_base_patch14_reg4_dinov2",
        # inferred from the published parameter count; a strict load refuses any other
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334, "reg_tokens": 4,
                                        "no_embed_class": True}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=5, dim=768, depth=12, heads=12,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=BIOPTIMUS_MEAN, std=BIOPTIMUS_STD,
        parameters=85_739_520,
        licence="CC-BY-NC-ND 4.0: non-commercial academic research only; also binds models trained on its outputs",
        gated=True,
        pretraining="distilled from H-optimus-0 on TCGA tiles; the teacher's cohorts undisclosed",
        reference="Filiot et al. 2025, arXiv:2501.16239",
        pretraining_cohorts=MappingProxyType({"TCGA": "included"}),
        forbids_clinical_use=True,
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="virchow",
        title="Virchow",
        hub_id="paige-ai/Virchow",
        architecture="vit_huge_patch14_224",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375,
                                        "dynamic_img_size": True}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=1, dim=2560, depth=32, heads=16,
        embedding="cls_mean",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=631_229_184,
        licence="Apache-2.0 with further terms, gated; the further terms are unverified here",
        gated=True,
        pretraining="1,500,000 H&E slides of about 100,000 patients of MSKCC; other cohorts undisclosed",
        reference="Vorontsov et al. 2024, doi:10.1038/s41591-024-03141-0",
        pretraining_cohorts=MappingProxyType({"MSK": "included"}),
    ),
    BackboneCard(
        name="virchow2",
        title="Virchow2",
        hub_id="paige-ai/Virchow2",
        architecture="vit_huge_patch14_224",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375,
                                        "dynamic_img_size": True, "reg_tokens": 4}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=5, dim=2560, depth=32, heads=16,
        embedding="cls_mean",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=631_239_424,
        licence="CC-BY-NC-ND 4.0: non-commercial; commercial requests are rejected by default",
        gated=True,
        pretraining="3,100,000 slides, H&E and IHC, of MSKCC and others; other cohorts undisclosed",
        reference="Zimmermann et al. 2024, arXiv:2408.00738",
        pretraining_cohorts=MappingProxyType({"MSK": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="phikon",
        title="Phikon",
        hub_id="owkin/phikon",
        architecture="vit_base_patch16_224",
        timm_arguments=MappingProxyType({"img_size": 224}),
        mlp="gelu",
        patch_px=16, prefix_tokens=1, dim=768, depth=12, heads=12,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=85_798_656,
        licence="Owkin non-commercial; whether access is gated is unverified",
        gated=False,
        pretraining="more than 40,000,000 tiles of about 6,000 TCGA slides, 16 cancer types; other cohorts undisclosed",
        reference="Filiot et al. 2023, doi:10.1101/2023.07.21.23292757",
        layout="vit",
        norm_epsilon=1e-12,
        pretraining_cohorts=MappingProxyType({"TCGA": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="phikon-v2",
        title="Phikon-v2",
        hub_id="owkin/phikon-v2",
        architecture="vit_large_patch16_224",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5}),
        mlp="gelu",
        patch_px=16, prefix_tokens=1, dim=1024, depth=24, heads=16,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=303_350_784,
        licence="Owkin non-commercial; whether access is gated is unverified",
        gated=True,
        pretraining="PANCAN-XL: 60,000 slides, of TCGA, GTEx, CPTAC and other public cohorts; full list undisclosed",
        reference="Filiot et al. 2024, arXiv:2409.09173",
        layout="dinov2",
        pretraining_cohorts=MappingProxyType({"TCGA": "included", "GTEx": "included", "CPTAC": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="hibou-b",
        title="Hibou-B",
        hub_id="histai/hibou-b",
        architecture="vit_base_patch14_reg4_dinov2",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334, "reg_tokens": 4,
                                        "no_embed_class": True}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=5, dim=768, depth=12, heads=12,
        embedding="cls",
        # unverified: the owner states these colours for Hibou-L
        tile_px=224, mpp=0.5, mean=HIBOU_MEAN, std=HIBOU_STD,
        parameters=85_739_520,
        licence="Apache-2.0 as that of Hibou-L; its own, and whether access is gated, are unverified",
        gated=False,
        pretraining="more than 1,000,000 proprietary slides, H&E and other stains; cohorts undisclosed",
        reference="Nechaev et al. 2024, arXiv:2406.05074",
        layout="dinov2_registers",
    ),
    BackboneCard(
        name="hibou-l",
        title="Hibou-L",
        hub_id="histai/hibou-L",
        architecture="vit_large_patch14_reg4_dinov2",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.34375, "reg_tokens": 4,
                                        "no_embed_class": True}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=5, dim=1024, depth=24, heads=16,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=HIBOU_MEAN, std=HIBOU_STD,
        parameters=303_657_216,
        licence="Apache-2.0",
        gated=True,
        pretraining="more than 1,000,000 proprietary slides, H&E and other stains; cohorts undisclosed",
        reference="Nechaev et al. 2024, arXiv:2406.05074",
        layout="dinov2_registers",
    ),
    BackboneCard(
        name="midnight-12k",
        title="Midnight-12k",
        hub_id="kaiko-ai/midnight",
        architecture="vit_giant_patch14_dinov2",
        timm_arguments=MappingProxyType({"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334}),
        mlp="swiglu",
        patch_px=14, prefix_tokens=1, dim=1536, depth=40, heads=24,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=HALF_MEAN, std=HALF_STD,
        parameters=1_134_769_664,
        licence="MIT",
        gated=False,
        pretraining="12,000 FFPE slides of TCGA, from weights of DINOv2; all other cohorts declared excluded",
        reference="Karasikov et al. 2025, arXiv:2504.05186",
        layout="dinov2",
        pretraining_cohorts=MappingProxyType({"TCGA": "included", ANY_PROGRAMME: "excluded"}),
    ),
    BackboneCard(
        name="kaiko-s16",
        title="kaiko ViT-S/16",
        hub_id="1aurent/vit_small_patch16_224.kaiko_ai_towards_large_pathology_fms",
        architecture="vit_small_patch16_224",
        timm_arguments=MappingProxyType({"img_size": 224, "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=16, prefix_tokens=1, dim=384, depth=12, heads=6,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=HALF_MEAN, std=HALF_STD,
        parameters=21_665_664,
        licence="kaiko-non-commercial; whether access is gated is unverified",
        gated=False,
        pretraining="more than 29,000 slides of TCGA; other cohorts undisclosed",
        reference="kaiko.ai 2024, arXiv:2404.15217",
        pretraining_cohorts=MappingProxyType({"TCGA": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="kaiko-s8",
        title="kaiko ViT-S/8",
        hub_id="1aurent/vit_small_patch8_224.kaiko_ai_towards_large_pathology_fms",
        architecture="vit_small_patch8_224",
        timm_arguments=MappingProxyType({"img_size": 224, "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=8, prefix_tokens=1, dim=384, depth=12, heads=6,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=HALF_MEAN, std=HALF_STD,
        parameters=21_670_272,
        licence="kaiko-non-commercial; whether access is gated is unverified",
        gated=False,
        pretraining="more than 29,000 slides of TCGA; other cohorts undisclosed",
        reference="kaiko.ai 2024, arXiv:2404.15217",
        pretraining_cohorts=MappingProxyType({"TCGA": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="kaiko-b16",
        title="kaiko ViT-B/16",
        hub_id="1aurent/vit_base_patch16_224.kaiko_ai_towards_large_pathology_fms",
        architecture="vit_base_patch16_224",
        timm_arguments=MappingProxyType({"img_size": 224, "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=16, prefix_tokens=1, dim=768, depth=12, heads=12,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=HALF_MEAN, std=HALF_STD,
        parameters=85_798_656,
        licence="kaiko-non-commercial; whether access is gated is unverified",
        gated=False,
        pretraining="more than 29,000 slides of TCGA; other cohorts undisclosed",
        reference="kaiko.ai 2024, arXiv:2404.15217",
        pretraining_cohorts=MappingProxyType({"TCGA": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="kaiko-b8",
        title="kaiko ViT-B/8",
        hub_id="1aurent/vit_base_patch8_224.kaiko_ai_towards_large_pathology_fms",
        architecture="vit_base_patch8_224",
        timm_arguments=MappingProxyType({"img_size": 224, "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=8, prefix_tokens=1, dim=768, depth=12, heads=12,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=HALF_MEAN, std=HALF_STD,
        parameters=85_807_872,
        licence="kaiko-non-commercial; whether access is gated is unverified",
        gated=False,
        pretraining="more than 29,000 slides of TCGA; other cohorts undisclosed",
        reference="kaiko.ai 2024, arXiv:2404.15217",
        pretraining_cohorts=MappingProxyType({"TCGA": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="kaiko-l14",
        title="kaiko ViT-L/14",
        hub_id="1aurent/vit_large_patch14_reg4_224.kaiko_ai_towards_large_pathology_fms",
        architecture="vit_large_patch14_reg4_dinov2",
        timm_arguments=MappingProxyType({"img_size": 518, "init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True,
                                        "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=14, prefix_tokens=5, dim=1024, depth=24, heads=16,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=HALF_MEAN, std=HALF_STD,
        parameters=304_370_688,
        licence="kaiko-non-commercial; whether access is gated is unverified",
        gated=False,
        pretraining="more than 29,000 slides of TCGA; other cohorts undisclosed",
        reference="kaiko.ai 2024, arXiv:2404.15217",
        pretraining_cohorts=MappingProxyType({"TCGA": "included"}),
        forbids_commercial_use=True,
    ),
    BackboneCard(
        name="dinov2-l14",
        title="DINOv2 ViT-L/14 (control)",
        hub_id="timm/vit_large_patch14_dinov2.lvd142m",
        architecture="vit_large_patch14_dinov2",
        timm_arguments=MappingProxyType({"img_size": 518, "init_values": 1e-5, "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=14, prefix_tokens=1, dim=1024, depth=24, heads=16,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=304_367_616,
        licence="Apache-2.0",
        gated=False,
        pretraining="LVD-142M: natural images, no pathology; their sources on the web undisclosed",
        reference="Oquab et al. 2023, arXiv:2304.07193",
        pretraining_cohorts=MappingProxyType({ANY_PROGRAMME: "excluded"}),
    ),
    BackboneCard(
        name="dinov2-l14-reg4",
        title="DINOv2 ViT-L/14 with registers (control)",
        hub_id="timm/vit_large_patch14_reg4_dinov2.lvd142m",
        architecture="vit_large_patch14_reg4_dinov2",
        timm_arguments=MappingProxyType({"img_size": 518, "init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True,
                                        "dynamic_img_size": True}),
        mlp="gelu",
        patch_px=14, prefix_tokens=5, dim=1024, depth=24, heads=16,
        embedding="cls",
        tile_px=224, mpp=0.5, mean=IMAGENET_MEAN, std=IMAGENET_STD,
        parameters=304_370_688,
        licence="Apache-2.0",
        gated=False,
        pretraining="LVD-142M: natural images, no pathology; their sources on the web undisclosed",
        reference="Darcet et al. 2023, arXiv:2309.16588",
        pretraining_cohorts=MappingProxyType({ANY_PROGRAMME: "excluded"}),
    ),
)  # fmt: skip

CARDS: Mapping[str, BackboneCard] = MappingProxyType({card.name: card for card in _CARDS})


_DECIDES = (
    "hub_id", "architecture", "timm_arguments", "mlp", "patch_px", "prefix_tokens", "dim", "depth", "heads",
    "embedding", "tile_px", "mpp", "mean", "std", "layout", "norm_epsilon",
)  # fmt: skip


def card_sha256(card: BackboneCard) -> str:
    """Hash of what of a card decides a number: network and input. Words about it, such as its licence, do not count."""
    content = {name: getattr(card, name) for name in _DECIDES}
    text = json.dumps(content | {"timm_arguments": dict(card.timm_arguments)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def stand_in(card: BackboneCard) -> BackboneCard:
    """The card of a small network that keeps `card`'s patch size, registers, normalisation and layer kinds.

    LayerScale starts at 1 rather than 1e-5, so that random weights already pass signal through the blocks.
    """
    width, depth, heads = 64, 2, 4
    arguments = dict(card.timm_arguments) | {
        "embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": 2.0,
    }  # fmt: skip
    if "init_values" in arguments:  # else the network has no LayerScale
        arguments["init_values"] = 1.0
    return replace(
        card,
        title=f"stand-in for {card.title}",
        timm_arguments=MappingProxyType(arguments),
        dim=width * 2 if card.embedding == "cls_mean" else width,
        depth=depth,
        heads=heads,
        parameters=0,
        licence="none: random weights made here",
        gated=False,
        pretraining="none: random weights",
        pretraining_cohorts=MappingProxyType({ANY_PROGRAMME: "excluded"}),
        forbids_clinical_use=False,
        forbids_commercial_use=False,
        stand_in=True,
    )
