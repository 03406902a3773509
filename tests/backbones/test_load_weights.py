"""Weights come from a local file or the hub; what does not fit, runs code or cannot be had is refused in words."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file
from torch import Tensor

from tapfm_eval.backbones.cards import CARDS, stand_in
from tapfm_eval.backbones.load import build_backbone, load_backbone, read_checkpoint
from tapfm_eval.errors import BackboneError

CARD = replace(stand_in(CARDS["h-optimus-0"]), stand_in=False)
GATED = replace(stand_in(CARDS["uni"]), stand_in=False, gated=True, licence=CARDS["uni"].licence)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """What the card's owner would publish."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return build_backbone(CARD).state_dict()


def written(path: Path, state: dict[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, str(path))
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.bin"])
def test_a_local_file_gives_its_weights_to_the_bit(tmp_path: Path, published: dict[str, Tensor], name: str) -> None:
    network = load_backbone(CARD, weights=written(tmp_path / name, published), seed=1)
    got = network.state_dict()
    assert got.keys() == published.keys()
    assert all(torch.equal(got[key], published[key]) for key in published)
    assert not network.training
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert all(p.device.type == "cpu" and p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_wrapped_checkpoint_with_a_classifier_is_read(
    tmp_path: Path, published: dict[str, Tensor], wrapper: str
) -> None:
    path = tmp_path / "w.pt"
    torch.save({wrapper: {**published, "head.weight": torch.zeros(2, 64)}, "epoch": 3}, path)
    assert read_checkpoint(path).keys() == published.keys()


def test_half_precision_weights_become_float32(tmp_path: Path, published: dict[str, Tensor]) -> None:
    path = written(tmp_path / "w.safetensors", {name: tensor.half() for name, tensor in published.items()})
    network = load_backbone(CARD, weights=path, seed=1)
    assert torch.equal(network.norm.weight, published["norm.weight"].half().float())


def test_every_kind_of_misfit_is_named(tmp_path: Path, published: dict[str, Tensor]) -> None:
    state = dict(published)
    del state["cls_token"]
    state["extra.weight"] = torch.zeros(3)
    state["norm.weight"] = torch.zeros(65)
    path = written(tmp_path / "w.safetensors", state)
    with pytest.raises(BackboneError) as error:
        load_backbone(CARD, weights=path, seed=1)
    text = str(error.value)
    assert str(path) in text
    assert "cls_token missing" in text
    assert "extra.weight unknown" in text
    assert "norm.weight is (65,) instead of (64,)" in text
    assert "bioptimus/H-optimus-0" in text


def test_another_models_weights_are_refused_and_the_list_is_cut(tmp_path: Path, published: dict[str, Tensor]) -> None:
    path = written(tmp_path / "w.safetensors", {f"module.{name}": tensor for name, tensor in published.items()})
    with pytest.raises(BackboneError, match=r"; and \d+ more") as error:
        load_backbone(CARD, weights=path, seed=1)
    assert len(str(error.value)) < 1000


class _Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_holds_code_is_refused_without_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, zipped = tmp_path / "plain.pt", tmp_path / "zipped.bin"
    plain.write_bytes(pickle.dumps({"w": _Bomb()}, protocol=protocol))
    torch.save({"w": _Bomb()}, zipped, pickle_protocol=protocol)
    for path in (plain, zipped):
        with pytest.raises(BackboneError, match="checkpoints that hold code are not read"):
            read_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04 and no zip", b"\xff" * 4096])
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BackboneError) as error:
        read_checkpoint(tmp_path / name)
    assert name in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, torch.zeros(2), {"state_dict": {"a": "text"}}])
def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BackboneError, match="tensors by name"):
        read_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pt", "folder.pt", "folder.safetensors"])
def test_a_path_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    if name.startswith("folder"):
        (tmp_path / name).mkdir()
    with pytest.raises(BackboneError) as error:
        load_backbone(CARD, weights=tmp_path / name, seed=1)
    assert name in str(error.value)


def response(status: int) -> object:
    """An answer of the hub, of whichever HTTP library this version of its client uses."""
    module = sys.modules[errors.HfHubHTTPError.__mro__[1].__module__.split(".")[0]]
    request = module.Request("HEAD", "https://huggingface.co")
    return module.Response(status, request=request)


def ask_hub(monkeypatch: pytest.MonkeyPatch, fault: Exception, card: object = GATED) -> str:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise fault

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_args: None)
    with pytest.raises(BackboneError) as error:
        load_backbone(card, weights=None, seed=1)  # type: ignore[arg-type]
    return str(error.value)


def test_gated_weights_say_how_to_get_access_and_where_a_file_may_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    text = ask_hub(monkeypatch, errors.GatedRepoError("gated", response=response(403)))  # type: ignore[arg-type]
    assert "access not granted to you" in text
    assert "https://huggingface.co/MahmoodLab/UNI" in text
    assert "hf auth login" in text
    assert "--weights uni=FILE" in text
    assert "CC-BY-NC-ND" in text


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (errors.LocalEntryNotFoundError("nothing"), "cannot be reached and nothing is cached"),
        (errors.OfflineModeIsEnabled("offline"), "cannot be reached and nothing is cached"),
        (TimeoutError(), "cannot be reached and nothing is cached (TimeoutError"),
        (RuntimeError("proxy\nsecond line"), "RuntimeError: proxy)"),
        (errors.EntryNotFoundError("no file"), "no weight file in the repository"),
    ],
)
def test_every_way_of_not_having_weights_is_said(monkeypatch: pytest.MonkeyPatch, fault: Exception, said: str) -> None:
    text = ask_hub(monkeypatch, fault)
    assert said in text
    assert "--weights uni=FILE" in text


def test_a_fault_of_the_hub_itself_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = errors.RepositoryNotFoundError("404: moved", response=response(404))  # type: ignore[arg-type]
    text = ask_hub(monkeypatch, fault, CARD)
    assert "RepositoryNotFoundError: 404: moved" in text
    assert "Check that https://huggingface.co/bioptimus/H-optimus-0 can be reached" in text


def test_the_second_file_name_is_tried_and_a_cached_file_needs_no_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, published: dict[str, Tensor]
) -> None:
    path = written(tmp_path / "pytorch_model.bin", published)
    asked: list[str] = []

    def metadata(url: str, **_kwargs: object) -> None:
        asked.append(url)
        if url.endswith(".safetensors"):
            raise errors.EntryNotFoundError("no such file")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_args, **_kwargs: str(path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_args: None)
    assert torch.equal(load_backbone(CARD, weights=None, seed=1).norm.weight, published["norm.weight"])
    assert [url.rsplit("/", 1)[1] for url in asked] == ["model.safetensors", "pytorch_model.bin"]

    asked.clear()
    cached = written(tmp_path / "model.safetensors", published)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_args: str(cached))
    load_backbone(CARD, weights=None, seed=1)
    assert asked == []


_OFFLINE = """
import socket, sys, threading, time
quiet = socket.socket(); quiet.bind(("127.0.0.1", 0)); quiet.listen(8)  # takes calls and never answers
import os
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{quiet.getsockname()[1]}"
os.environ["HF_HOME"] = sys.argv[1]
for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
    os.environ.pop(name, None)
from tapfm_eval.backbones import load
from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.errors import BackboneError
load.HUB_TIMEOUT_SECONDS = 1
import huggingface_hub
start = time.monotonic()
try:
    load.load_backbone(CARDS["uni"], weights=None, seed=1)
except BackboneError as error:
    print(error)
print(time.monotonic() - start)
"""


def test_a_hub_that_never_answers_does_not_hang(tmp_path: Path) -> None:
    """hf_hub_download alone would ask again for more than six minutes."""
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    *message, seconds = done.stdout.strip().splitlines()
    assert "the hub cannot be reached and nothing is cached" in message[0]
    assert float(seconds) < 20
