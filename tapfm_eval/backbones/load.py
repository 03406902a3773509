"""A card to a network with weights: built by timm, filled from a local file or the hub, never by remote code."""

import hashlib
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.backbones.keymaps import KeyMap, key_map
from tapfm_eval.errors import BackboneError, Problem

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_TIMEOUT_SECONDS = 10
STAND_IN_GAIN, STAND_IN_OFFSET = 5.0, 0.3
TIMM_NORM_EPSILON = 1e-6
_MLP_LAYERS: dict[str, dict[str, Any]] = {
    "gelu": {},
    # the ViT block passes its own activation, so SiLU has to be said: GELU would load silently and compute nonsense
    "swiglu": {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU},
}


def build_backbone(card: BackboneCard) -> VisionTransformer:
    """The card's network with timm's initial weights, without a classifier; on the current default device."""
    other = card.norm_epsilon != TIMM_NORM_EPSILON
    norm: dict[str, Any] = {"norm_layer": partial(nn.LayerNorm, eps=card.norm_epsilon)} if other else {}
    network = timm.create_model(
        card.architecture,
        pretrained=False,
        num_classes=0,
        global_pool="token",
        **dict(card.timm_arguments),
        **_MLP_LAYERS[card.mlp],
        **norm,
    )
    return cast(VisionTransformer, network)


def load_backbone(card: BackboneCard, *, weights: Path | None, seed: int) -> VisionTransformer:
    """The card's network in evaluation mode on the CPU, float32, with its published weights.

    Args:
        card: What to build. A stand-in gets random weights that depend on its name and `seed` alone.
        weights: Local checkpoint (.safetensors, or a .pt/.bin of tensors); None asks the hub.
        seed: The protocol's seed; used by stand-ins only.

    Raises:
        BackboneError: The weights cannot be had, or do not fit the network key by key.
    """
    if card.stand_in:
        digest = hashlib.sha256(f"stand-in|{card.name}|{seed}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest[:7], "big"))
            network = build_backbone(card)
            _enliven(network)
            return network.eval()
    path = weights if weights is not None else hub_weights(card)
    state = read_checkpoint(path)
    with torch.device("meta"):
        network = build_backbone(card)
    names = key_map(card.layout, card.depth, card.mlp)
    sources: Mapping[str, tuple[str, ...]] = {}
    if names is not None:
        state, sources = to_timm(state, names), names.sources
    _check_keys(card, path, network, state, sources)
    network.load_state_dict(state, strict=True, assign=True)
    return network.float().eval()


def count_parameters(card: BackboneCard) -> int:
    """How many parameters the card's network has; it is built without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_backbone(card).parameters())


def cached_weights(card: BackboneCard) -> Path | None:
    """The weights that an earlier download left on this machine; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(card.hub_id, name) for name in WEIGHT_FILES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _enliven(network: VisionTransformer) -> None:
    """Widens timm's initial weights, in place, so that a small network of random weights tells tissues apart.

    With the initial spread of 0.02 two blocks are almost linear in a tile's mean colour, which has three dimensions; a
    larger one makes them respond to what lies in single patches. The offset keeps the first LayerNorm from normalising
    a patch's contrast away.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2 and name.endswith("weight"):
                parameter.mul_(STAND_IN_GAIN)
        nn.init.normal_(cast(Tensor, network.patch_embed.proj.bias), std=STAND_IN_OFFSET)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by name; classifier weights (`head.*`) are left out.

    Raises:
        BackboneError: Not a file of plain tensors. Pickled code is refused, never run.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(str(path))
        else:
            refuse_compressed(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BackboneError(
            Problem(str(path), "a readable checkpoint", error.strerror or str(error), "Check the path.")
        ) from None
    except Exception as error:  # safetensors, zip and unpickling faults have no common type
        raise BackboneError(
            Problem(str(path), "a .safetensors file or a checkpoint of plain tensors", type(error).__name__,
                    "Fetch the file anew; checkpoints that hold code are not read.")
        ) from None  # fmt: skip
    if isinstance(content, dict) and set(content) & {"state_dict", "model"} and len(content) <= 8:
        content = content.get("state_dict", content.get("model"))
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    ):
        raise BackboneError(
            Problem(str(path), "tensors by name", type(content).__name__, "Give the model's own checkpoint file.")
        )
    kept = {name: tensor for name, tensor in content.items() if not name.startswith("head.")}
    size = path.stat().st_size
    odd = [f"{name}: {fault}" for name, tensor in kept.items() if (fault := tensor_fault(tensor, size))]
    if odd:
        listed = "; ".join(odd[:4]) + (f"; and {len(odd) - 4} more" if len(odd) > 4 else "")
        remedy = "Give the model's own checkpoint file."
        raise BackboneError(Problem(str(path), "plain tensors of real numbers", listed, remedy))
    return {name: tensor.float() for name, tensor in kept.items()}


def refuse_compressed(path: Path) -> None:
    """Raises ValueError for an archive that unpacks to more than it holds; torch itself stores without compression."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("a compressed archive")


def tensor_fault(tensor: Tensor, file_bytes: int) -> str | None:
    """Why a tensor from a file is of no use: its numbers could not be made float32 faithfully or safely; else None."""
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized or tensor.is_complex():
        return str(tensor.dtype).removeprefix("torch.")
    if tensor.device.type != "cpu":
        return "without numbers"
    if tensor.numel() * tensor.element_size() > file_bytes:  # a view that repeats its numbers
        return f"declares {tensor.numel():,} numbers, more than the file holds"
    return None


def to_timm(state: Mapping[str, Tensor], names: KeyMap) -> dict[str, Tensor]:
    """A checkpoint's tensors under timm's names; what cannot be mapped keeps its own name."""
    left = {name: tensor for name, tensor in state.items() if name not in names.dropped}
    made: dict[str, Tensor] = {}
    for name, parts in names.sources.items():
        # tensors that do not fit together stay apart, so that the check after this names them
        if all(part in left for part in parts) and len({left[part].shape for part in parts}) == 1:
            tensors = [left.pop(part) for part in parts]
            made[name] = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    if names.folds_position and {"cls_token", "pos_embed"} <= made.keys():
        token, position = made["cls_token"], made["pos_embed"]
        if token.shape == position[:, :1].shape:
            made |= {"cls_token": token + position[:, :1], "pos_embed": position[:, 1:]}
    return made | left


def _check_keys(
    card: BackboneCard,
    path: Path,
    network: nn.Module,
    state: dict[str, Tensor],
    sources: Mapping[str, tuple[str, ...]],
) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in state.items()}
    absent = sorted(part for name in expected.keys() - got.keys() for part in sources.get(name, (name,)))
    wrong = [f"{name} missing" for name in absent if name not in got]
    wrong += [f"{name} unknown" for name in sorted(got.keys() - expected.keys())]
    wrong += [
        f"{name} is {got[name]} instead of {expected[name]}"
        for name in sorted(expected.keys() & got.keys())
        if expected[name] != got[name]
    ]
    if wrong:
        listed = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise BackboneError(
            Problem(str(path), f"the weights of {card.title} ({len(expected)} tensors)", listed,
                    f"Use the checkpoint published at {card.hub_id}.")
        )  # fmt: skip


def hub_weights(card: BackboneCard) -> Path:
    """The weights as published, from the local cache or the hub; without a network it fails within seconds.

    Raises:
        BackboneError: They cannot be had; says why, and how to get them.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    access = (
        f"Request access at https://huggingface.co/{card.hub_id}, then `hf auth login`"
        if card.gated
        else f"Check that https://huggingface.co/{card.hub_id} can be reached"
    )
    remedy = f"{access}; or give a local file: --weights {card.name}=FILE. Licence: {card.licence}."
    unreachable = "the hub cannot be reached and nothing is cached"
    got = "no weight file in the repository"
    for name in WEIGHT_FILES:
        try:
            cached = try_to_load_from_cache(card.hub_id, name)
            if isinstance(cached, str):
                return Path(cached)
            # one short question first: without an answer, the download itself would ask again for minutes
            get_hf_file_metadata(hf_hub_url(card.hub_id, name), timeout=HUB_TIMEOUT_SECONDS)
            return Path(hf_hub_download(card.hub_id, name, etag_timeout=HUB_TIMEOUT_SECONDS))
        except GatedRepoError:
            got = "access not granted to you"
            break
        except LocalEntryNotFoundError:
            got = unreachable
            break
        except EntryNotFoundError:
            continue
        except HfHubHTTPError as error:
            got = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:120]}"
            break
        except Exception as error:  # timeouts, proxies, full disks: the client's HTTP library differs between versions
            got = f"{unreachable} ({type(error).__name__}: {str(error).partition(chr(10))[0][:120]})"
            break
    raise BackboneError(Problem(f"backbone {card.name}", f"the weights of {card.title}", got, remedy))
