"""A card to a network with weights: built by timm, filled from a local file or the hub, never by remote code."""

import hashlib
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.errors import BackboneError, Problem

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_TIMEOUT_SECONDS = 10
_MLP_LAYERS: dict[str, dict[str, Any]] = {
    "gelu": {},
    # the ViT block passes its own activation, so SiLU has to be said: GELU would load silently and compute nonsense
    "swiglu": {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU},
}


def build_backbone(card: BackboneCard) -> VisionTransformer:
    """The card's network with timm's initial weights, without a classifier; on the current default device."""
    network = timm.create_model(
        card.architecture,
        pretrained=False,
        num_classes=0,
        global_pool="token",
        **dict(card.timm_arguments),
        **_MLP_LAYERS[card.mlp],
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
            return build_backbone(card).eval()
    path = weights if weights is not None else _from_hub(card)
    state = read_checkpoint(path)
    with torch.device("meta"):
        network = build_backbone(card)
    _check_keys(card, path, network, state)
    network.load_state_dict(state, strict=True, assign=True)
    return network.float().eval()


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
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise BackboneError(
            Problem(str(path), "tensors by name", type(content).__name__, "Give the model's own checkpoint file.")
        )
    return {name: tensor.float() for name, tensor in content.items() if not name.startswith("head.")}


def _check_keys(card: BackboneCard, path: Path, network: nn.Module, state: dict[str, Tensor]) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [f"{name} missing" for name in sorted(expected.keys() - got.keys())]
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


def _from_hub(card: BackboneCard) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    access = (
        f"Request access at https://huggingface.co/{card.hub_id}, then `hf auth login`"
        if card.gated
        else f"Check that https://huggingface.co/{card.hub_id} can be reached"
    )
    remedy = f"{access}; or give a local file: --weights {card.name}=FILE. Licence: {card.licence}."
    got = "no weight file in the repository"
    for name in WEIGHT_FILES:
        try:
            return Path(hf_hub_download(card.hub_id, name, etag_timeout=HUB_TIMEOUT_SECONDS))
        except GatedRepoError:
            got = "access not granted to you"
            break
        except LocalEntryNotFoundError:
            got = "the hub cannot be reached and nothing is cached"
            break
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError, ValueError) as error:
            got = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
            break
    raise BackboneError(Problem(f"backbone {card.name}", f"the weights of {card.title}", got, remedy))
