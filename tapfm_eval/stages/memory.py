"""Memory of the host that a unit asks for, so that no machine is given more units than it holds. No torch here.

An estimate on the safe side: what is asked for is kept free, and what is used may be more or less.
"""

from tapfm_eval.backbones.cards import BackboneCard
from tapfm_eval.methods.recipe import Recipe
from tapfm_eval.protocol.schema import LastBlocks, Lora

PROCESS_MB = 900.0  # Python with torch; 835 measured
CUDA_MB = 2500.0  # a CUDA context with its libraries
READER_MB = 200.0  # of a process that reads slides, beside the pages that all share
BLOCK_VALUES = 17  # numbers that a block keeps for the backward pass, by token and width, beside its attention
GRID_BYTES = 20  # a tile's position and share of tissue


def host_memory_mb(
    card: BackboneCard, adapt: object, recipe: Recipe, *, gpu: bool, readers: int, tiles: int
) -> float:  # fmt: skip
    """What training, predicting or embedding occupies.

    Args:
        card: The backbone.
        adapt: How it is adapted, as the protocol says it; `frozen` with tiles to read is embedding.
        recipe: Of the arm.
        gpu: Whether network and activations lie on a GPU.
        readers: Processes that read slides; 0 where stored embeddings are read.
        tiles: Of all slides whose positions the unit holds.
    """
    width, depth = card.width, card.depth
    parameters = card.parameters or 12 * depth * width**2  # a stand-in's card states none
    tokens = (card.tile_px // card.patch_px) ** 2 + card.prefix_tokens
    share = {"full": 1.0, "frozen": 0.0}.get(str(adapt), 1.0)
    trained, walked = parameters * share, share
    if isinstance(adapt, LastBlocks):
        walked = min(1.0, adapt.last_blocks / depth)
        trained = parameters * walked
    elif isinstance(adapt, Lora):
        trained = 12.0 * depth * width * adapt.lora.rank
    numbers = 2.0 * parameters  # the file's beside the network's while it is loaded
    numbers += 4 * trained  # a checkpoint's copies of weights and moments, and the best epoch's weights
    if not gpu:
        numbers += 3 * trained  # gradients and moments
        activations = BLOCK_VALUES * tokens * width + card.heads * tokens**2
        numbers += recipe.micro_batch * activations * max(1.0, depth * walked)
    fixed = PROCESS_MB + (CUDA_MB if gpu else 0.0) + readers * READER_MB
    return fixed + (4 * numbers + tiles * GRID_BYTES) / 2**20


def stored_memory_mb(card: BackboneCard, *, gpu: bool, largest: int, tiles: int) -> float:
    """What an arm occupies that reads stored embeddings.

    Args:
        card: The backbone that made them.
        gpu: Whether the aggregator lies on a GPU.
        largest: Tiles of the largest slide.
        tiles: Of all slides whose positions the unit holds.
    """
    # as read, as the bag, and what the aggregator keeps of it
    numbers = 6.0 * largest * card.dim
    return PROCESS_MB + (CUDA_MB if gpu else 0.0) + (4 * numbers + tiles * GRID_BYTES) / 2**20
