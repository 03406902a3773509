"""What every aggregator must do, whatever its paper: shared by the tests of each."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tapfm_eval.backbones.cards import CARDS
from tapfm_eval.backbones.encoder import TileEncoder
from tapfm_eval.backbones.load import build_backbone
from tapfm_eval.methods.adapt import adaptation_step
from tapfm_eval.methods.adaptation import adapt_encoder
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.losses import SlideLoss, TargetWeights
from tapfm_eval.methods.randomness import depth_keep
from tapfm_eval.protocol.schema import Adapt, LastBlocks, Lora, LoraPlan

ADAPTATIONS: dict[str, Adapt] = {
    "full": "full", "last_blocks": LastBlocks(last_blocks=1), "lora": Lora(lora=LoraPlan(rank=2)),
}  # fmt: skip
DIM, TARGETS = 24, 3
WEIGHTS = TargetWeights(prevalence=(0.3, 0.1, 0.5), target=(1.1, 1.6, 0.3))
LABELS = (1.0, float("nan"), 0.0)
NAN = float("nan")


def loss_of(*labels: float, smoothing: float = 0.1) -> SlideLoss:
    return SlideLoss(torch.tensor(labels, dtype=torch.float64), WEIGHTS, smoothing)


def slow_slide_loss(logits: NDArray[np.float64], labels: tuple[float, ...], smoothing: float = 0.1) -> float:
    """The weighted cross-entropy of a slide, one target at a time."""
    total = 0.0
    for logit, label, p, weight in zip(logits, labels, WEIGHTS.prevalence, WEIGHTS.target, strict=True):
        if not np.isnan(label):
            y = label * (1 - smoothing) + smoothing / 2
            chance = 1 / (1 + np.exp(-logit))
            entropy = -(y * np.log(chance) + (1 - y) * np.log(1 - chance))
            total += weight * (1 - p if label == 1 else p) * entropy
    return total


def random_bag(tiles: int, seed: int = 0, dim: int = DIM) -> tuple[Tensor, Tensor]:
    """Embeddings and attention in float64."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(tiles, dim))), torch.from_numpy(rng.uniform(0.9, 1.1, tiles) / 196)


def seeded(make: type[Aggregator], **options: object) -> Aggregator:
    """An aggregator in float64 whose biases are not zero either."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        aggregator = make(DIM, TARGETS, **options).double()  # type: ignore[call-arg]
        with torch.no_grad():
            for parameter in aggregator.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return aggregator


def numbers(aggregator: Aggregator) -> dict[str, NDArray[np.float64]]:
    return {name: tensor.detach().numpy() for name, tensor in aggregator.state_dict().items()}


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


def gradients(*modules: torch.nn.Module) -> dict[str, Tensor]:
    return {
        f"{i}.{name}": torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for i, module in enumerate(modules)
        for name, p in module.named_parameters()
        if p.requires_grad
    }


def assert_order_of_tiles_does_not_matter(aggregator: Aggregator) -> None:
    z, a = random_bag(21)
    order = torch.from_numpy(np.random.default_rng(1).permutation(21))
    one, other = aggregator(z, a), aggregator(z[order], a[order])
    torch.testing.assert_close(other.logits, one.logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(other.weights, one.weights[order], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        aggregator.loss(z[order], a[order], loss_of(*LABELS)), aggregator.loss(z, a, loss_of(*LABELS)),
        rtol=0, atol=1e-12,
    )  # fmt: skip


def assert_weights_are_shares(aggregator: Aggregator) -> None:
    for tiles in (1, 2, 3, 5, 10, 16, 17, 40):
        output = aggregator(*random_bag(tiles))
        assert output.logits.shape == (TARGETS,)
        assert output.weights.shape == (tiles,)
        assert bool((output.weights >= 0).all())
        torch.testing.assert_close(output.weights.sum(), torch.tensor(1.0, dtype=torch.float64))


def assert_an_unknown_label_contributes_nothing(aggregator: Aggregator) -> None:
    """Known targets add up, one by one; a slide without any known label has exactly zero loss and gradient."""
    z, a = random_bag(21)
    alone = aggregator.loss(z, a, loss_of(1.0, NAN, NAN)) + aggregator.loss(z, a, loss_of(NAN, NAN, 0.0))
    torch.testing.assert_close(aggregator.loss(z, a, loss_of(*LABELS)), alone, rtol=0, atol=1e-12)
    z.requires_grad_()
    loss = aggregator.loss(z, a, loss_of(NAN, NAN, NAN))
    loss.backward()
    assert float(loss.detach()) == 0
    assert z.grad is not None
    assert not z.grad.any()
    assert not any(gradient.any() for gradient in gradients(aggregator).values())


def small_encoder() -> TileEncoder:
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": DIM, "depth": 3, "num_heads": 3, "init_values": 0.5}
    card = replace(
        CARDS["uni"], architecture="vit_tiny_patch16_224", timm_arguments=MappingProxyType(arguments),
        dim=DIM, depth=3, heads=3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build_backbone(card)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn_like(parameter)  # signal that differs between tiles
    return TileEncoder(network.double(), card)


def assert_two_passes_equal_the_joint_graph(aggregator: Aggregator, adaptation: str) -> None:
    """Gradients of backbone and aggregator to 1e-10: missing label, stochastic depth, an odd micro-batch."""
    tiles = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (19, 3, 32, 32), dtype=np.uint8))
    encoder = small_encoder()
    adapt_encoder(encoder, ADAPTATIONS[adaptation], "arm", 1)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(9)
        for name, parameter in encoder.named_parameters():
            if name.endswith(".up"):  # adapters start at zero, where half of their gradients vanish
                parameter += 0.1 * torch.randn_like(parameter)
    keep = depth_keep(np.arange(19), 3, 0.3, 1)
    assert keep is not None
    z, a = encoder(tiles, keep)
    joint = aggregator.loss(z, a, loss_of(*LABELS))
    joint.backward()
    expected = gradients(encoder, aggregator)
    encoder.zero_grad()
    aggregator.zero_grad()
    report = adaptation_step(
        encoder, aggregator, loss_of(*LABELS), tiles, keep=keep, micro_batch=4, lambda_attention=0.0,
        device=torch.device("cpu"), autocast=torch.enable_grad,
    )  # fmt: skip
    assert report.passes == 2
    assert abs(report.loss - float(joint.detach())) < 1e-10
    got = gradients(encoder, aggregator)
    assert got.keys() == expected.keys()
    assert max(float(gradient.abs().max()) for name, gradient in expected.items() if name.startswith("0.")) > 1e-6
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")
