"""The model of one arm: a backbone that may train, an aggregator, and how they are built from the protocol."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tapfm_eval.backbones.encoder import TileEncoder, trainable_state
from tapfm_eval.errors import SlideError, StudyError
from tapfm_eval.methods.abmil import Abmil
from tapfm_eval.methods.aggregator import Aggregator
from tapfm_eval.methods.clam import Clam
from tapfm_eval.methods.dsmil import Dsmil
from tapfm_eval.methods.mean_pooling import MeanPooling
from tapfm_eval.methods.precision import LossScaler, autocast, autocast_dtype
from tapfm_eval.methods.ranks import Ranks
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.methods.sources import Bag, Draw, FeatureBag, StudySlide, all_tiles
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.methods.transmil import TransMil
from tapfm_eval.methods.varmil import Varmil
from tapfm_eval.randomness import key

OnTiles = Callable[[StudySlide, NDArray[np.float32], NDArray[np.float32]], None]


@dataclass(frozen=True, slots=True)
class SlideModel:
    """Backbone and aggregator of one arm. `encoder` is None where the arm reads stored embeddings."""

    encoder: TileEncoder | None
    aggregator: Aggregator
    device: torch.device
    ranks: Ranks | None = None  # who else holds this model and shares the tiles of every bag; None: nobody
    scaler: LossScaler | None = field(init=False)  # where the backbone computes in fp16

    def __post_init__(self) -> None:
        scaled = self.encoder is not None and autocast_dtype(self.device) == torch.float16
        object.__setattr__(self, "scaler", LossScaler() if scaled else None)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 for the backbone on a GPU that has it, fp16 on one that has not; full precision on a CPU."""
        return autocast(self.device)

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The parts that may hold trained parameters, by the name they are saved under."""
        if self.encoder is not None:
            yield "backbone", self.encoder
        yield "aggregator", self.aggregator

    def state(self) -> dict[str, Tensor]:
        """Copies of all trainable parameters, on the CPU, by name."""
        return {f"{part}.{n}": t for part, module in self.modules() for n, t in trainable_state(module).items()}

    def save(self, state: dict[str, Tensor], path: Path) -> None:
        """Writes a state as safetensors."""
        save_file(state, str(path), metadata={"format": "tapfm-eval/weights/1"})

    def load(self, path: Path) -> None:
        """Puts a saved state back; every trainable parameter must be there."""
        saved = load_file(str(path))
        for part, module in self.modules():
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    with torch.no_grad():
                        parameter.copy_(saved[f"{part}.{name}"])

    def encode(self, bag: Bag, micro_batch: int) -> tuple[Tensor, Tensor]:
        """Embeddings (K, D) and attention (K,) of a bag without a graph."""
        if isinstance(bag, FeatureBag):
            return bag.z.to(self.device), bag.a.to(self.device)
        assert self.encoder is not None
        starts = range(0, len(bag.tiles), micro_batch)
        with torch.no_grad(), self.autocast():
            tiles = (bag.tiles[start : start + micro_batch].to(self.device, non_blocking=True) for start in starts)
            parts = [self.encoder(part) for part in tiles]
        return torch.cat([z for z, _ in parts]), torch.cat([a for _, a in parts])


def build_aggregator(name: str, dim: int, targets: int, recipe: Recipe, *seed_parts: int | str) -> Aggregator:
    """The aggregator that a protocol names, with initial weights that derive from `seed_parts`."""
    builders: dict[str, Callable[[], Aggregator]] = {
        "tapfm": lambda: Tapfm(dim, targets, temperature=recipe.temperature, layer_norm=recipe.layer_norm),
        "abmil": lambda: Abmil(dim, targets),
        "clam-sb": lambda: Clam(dim, targets, multi_branch=False),
        "clam-mb": lambda: Clam(dim, targets, multi_branch=True),
        "dsmil": lambda: Dsmil(dim, targets),
        "varmil": lambda: Varmil(dim, targets),
        "transmil": lambda: TransMil(dim, targets),
        "mean": lambda: MeanPooling(dim, targets),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key("aggregator", name, *seed_parts) >> 1)
        return builders[name]()


def inference_draws(slides: Sequence[StudySlide], recipe: Recipe, ranks: Ranks | None = None) -> Iterator[Draw]:
    """Draws that cover all tiles of these slides in bounded chunks; their bags go into `encode_slides`.

    Where processes share the slides, each has whole chunks of every slide to itself.
    """
    for slide in slides:
        chunks = all_tiles(slide, recipe.micro_batch)
        yield from chunks if ranks is None else chunks[ranks.share(len(chunks))]


def memory_ran_out(model: SlideModel, who: str, where: str, recipe: Recipe) -> StudyError:
    """What to say and do where `who` (a unit, or an embedding) found the device's memory full."""
    return StudyError(
        f"{who}: the memory of {model.device} ran out {where}, {recipe.micro_batch} tiles at a time. End other "
        "processes on the GPU, or state a smaller `micro_batch` under `training:`. The same command resumes."
    )


@contextmanager
def told_of_memory(model: SlideModel, who: str, where: str, recipe: Recipe) -> Iterator[None]:
    """Makes memory that runs out at inference a message; between processes that share bags, `Ranks` says it to all.

    Raises:
        StudyError: It ran out.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        if model.ranks is not None:
            raise
        raise memory_ran_out(model, who, where, recipe) from None


def encode_slides(
    model: SlideModel, bags: Iterator[Bag], slides: Sequence[StudySlide], recipe: Recipe
) -> Iterator[tuple[StudySlide, Tensor, Tensor]]:
    """All tiles of each slide, one forward pass a tile: (slide, z (N, D), a (N,)), in the order given.

    Takes from `bags` exactly the bags of `inference_draws(slides, recipe)`, so that one stream of bags may serve many
    epochs. Tiles come in chunks that are read ahead, so memory does not grow with the number of tiles.
    """
    for slide in slides:
        count = sum(1 for _ in inference_draws((slide,), recipe, model.ranks))
        if model.ranks is not None:
            yield slide, *_encoded_together(model, bags, slide, count, recipe, model.ranks)
            continue
        parts = [model.encode(next(bags), recipe.micro_batch) for _ in range(count)]
        yield slide, torch.cat([z for z, _ in parts]), torch.cat([a for _, a in parts])


def _encoded_together(
    model: SlideModel, bags: Iterator[Bag], slide: StudySlide, count: int, recipe: Recipe, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """All tiles of a slide from the chunks that each process has encoded."""
    assert model.encoder is not None
    dtype = next(model.aggregator.parameters()).dtype
    parts = [(torch.empty(0, model.encoder.dim, dtype=dtype, device=model.device),
              torch.empty(0, dtype=dtype, device=model.device))]  # fmt: skip
    failure = None
    try:
        parts += [model.encode(next(bags), recipe.micro_batch) for _ in range(count)]
    except SlideError as error:
        failure = error
    ranks.agree(failure, slide.slide_id)
    return ranks.gather(torch.cat([z for z, _ in parts]))[0], ranks.gather(torch.cat([a for _, a in parts]))[0]


def slide_logits(
    model: SlideModel,
    bags: Iterator[Bag],
    slides: Sequence[StudySlide],
    recipe: Recipe,
    advance: Callable[[int], None],
    on_tiles: OnTiles | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Raw logits (L,) by slide_id, from all tiles; not yet corrected for the training weights.

    Args:
        model: A trained model.
        bags: From `inference_draws(slides, recipe)`.
        slides: What is scored.
        recipe: Gives the micro-batch.
        advance: Told 1 for every slide.
        on_tiles: Given each slide with the backbone's raw attention (N,) and the aggregator's weights (N,) of its
            tiles, as heatmaps need them.
    """
    logits = {}
    for _, module in model.modules():
        module.eval()
    with torch.no_grad():
        for slide, z, a in encode_slides(model, bags, slides, recipe):
            output = model.aggregator(z, a)
            logits[slide.slide_id] = output.logits.double().cpu().numpy()
            if on_tiles is not None:
                on_tiles(slide, a.float().cpu().numpy(), output.weights.float().cpu().numpy())
            advance(1)
    return logits
