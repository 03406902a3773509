"""What each rank of test_sharded_training.py runs under torchrun: whole trainings of one unit over several processes.

argv: a folder, and the case. Rank 0 writes the trained weights and history there, as one process alone does.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from ranks_of_one_bag import encoder_of
from safetensors.torch import save_file
from toy_study import RECIPE, TileStore, toy_data

from tapfm_eval.errors import InputError, PausedError, Problem, TapfmEvalError, UnreadableSlideError
from tapfm_eval.methods import ranks as ranks_module
from tapfm_eval.methods import steady
from tapfm_eval.methods.checkpoint import Checkpoints, Pace
from tapfm_eval.methods.model import SlideModel
from tapfm_eval.methods.ranks import Ranks, joined_ranks
from tapfm_eval.methods.sharded import SharedBags, SharedCheckpoints
from tapfm_eval.methods.sources import BagSource, Draw, TileBag
from tapfm_eval.methods.tapfm import Tapfm
from tapfm_eval.methods.train import Trained, train_unit
from tapfm_eval.methods.unit import Unit
from tapfm_eval.parallel import started_by_torchrun

UNIT = Unit("toy", 1, 0)


@dataclass
class Failing:
    """A source whose third bag cannot be read the first time, or never, or for which there is no memory."""

    inner: BagSource
    for_ever: bool = False
    memory: bool = True
    left: int = 1
    broken: str = ""

    def bags(self, draws: Iterable[Draw]) -> Iterator[TileBag]:
        for i, bag in enumerate(self.inner.bags(draws)):
            if i == 2 and not self.memory:
                raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
            if (i == 2 and self.left) or bag.draw.slide_id == self.broken:
                self.left = 0
                self.broken = bag.draw.slide_id if self.for_ever else ""
                problem = Problem("slide", "tiles", "a torn block", "Mend it.")
                raise UnreadableSlideError(bag.draw.slide_id, problem)
            assert isinstance(bag, TileBag)
            yield bag


def train(folder: Path, ranks: Ranks | None, case: str, stop_after: int | None = None) -> Trained:
    """Trains two epochs; a patient's bag of 1 to 4 tiles leaves some ranks without any."""
    data = replace(toy_data(8, 8, tiles=5), tiles_per_slide=2 if case == "few tiles" else 4, min_per_class=1)
    generator = torch.Generator().manual_seed(2)
    tiles = {
        slide.slide_id: torch.randint(0, 256, (len(slide.grid), 3, 48, 48), dtype=torch.uint8, generator=generator)
        for slide in (*data.train, *data.validation)
    }
    torch.manual_seed(11)
    aggregator = Tapfm(16, 2, temperature=0.1, layer_norm=True).double()
    model = SlideModel(encoder_of("lora" if case == "lora" else "full"), aggregator, torch.device("cpu"), ranks)
    source: BagSource = TileStore(tiles)
    checking: BagSource = TileStore(tiles)
    if case == "unreadable" and ranks is not None and ranks.rank == 1:
        source, checking = Failing(source), Failing(checking)
    if case == "never read" and ranks is not None and ranks.rank == 1:
        source = Failing(source, for_ever=True)
    if case == "no memory to train" and ranks is not None and ranks.rank == 1:
        source = Failing(source, memory=False)
    if case == "no memory to validate" and ranks is not None and ranks.rank == 1:
        checking = Failing(checking, memory=False)
    checkpoints = Checkpoints(folder / "checkpoints", "key", pace=Pace(seconds=0.0, share=1.0))
    if ranks is not None:
        source = SharedBags(source, ranks)  # validation draws are shared out where they are made
        checkpoints = SharedCheckpoints(ranks, checkpoints)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if stop_after is not None and done >= stop_after:
            raise PausedError("stop")

    recipe = replace(RECIPE, epochs=2, drop_path=0.2, micro_batch=2)
    return train_unit(UNIT, model, recipe, data, source, checking, advance, checkpoints)


def write(folder: Path, trained: Trained) -> None:
    save_file(trained.state, str(folder / "weights.safetensors"))
    rows = [[e.epoch, e.train_loss, e.validation_loss, e.validation_auroc] for e in trained.history]
    (folder / "history.json").write_text(json.dumps([trained.selected_epoch, rows]))


def join(case: str, open_: ExitStack) -> Ranks:
    rank = os.environ["RANK"]
    if case == "unlike arithmetic" and rank == "1":  # an older GPU, whose gradients are scaled
        ranks_module.autocast_dtype = lambda _: torch.float16
    try:
        return open_.enter_context(joined_ranks("cpu", {}))
    except InputError as error:
        print(f"rank {rank}, {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def main() -> None:
    folder, case = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    steady.RETRY_SECONDS = (0.0, 0.0)
    if not started_by_torchrun():
        write(folder, train(folder, None, case))
        return
    with ExitStack() as open_:
        ranks = join(case, open_)
        if case == "stopped":
            for stop_after in (3, 9, 12):
                with suppress(PausedError):
                    train(folder, ranks, case, stop_after if ranks.leads else None)
        try:
            with ranks.together():
                trained = train(folder, ranks, case)
        except TapfmEvalError as error:
            print(f"rank {ranks.rank}, {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            sys.exit(error.exit_code)
        if ranks.leads:
            write(folder, trained)


if __name__ == "__main__":
    main()
