"""Bags that outlast a hiccup of the storage: a slide that cannot be read is read again before it counts as lost."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from tapfm_eval.errors import SlideError
from tapfm_eval.methods.sources import Bag, BagSource, Draw

RETRY_SECONDS = (2.0, 10.0)  # waits before the second and the third attempt; there is no fourth
Result = TypeVar("Result")


class SteadyBags(Iterator[Bag]):
    """The bags of a stream of draws, in order, of which a piece of work may take some again."""

    def __init__(
        self, source: BagSource, draws_from: Callable[[int], Iterable[Draw]], advance: Callable[[int], None]
    ) -> None:
        """Opens nothing yet.

        Args:
            source: Reads bags.
            draws_from: Gives the draws from a number (from 0) on, the same at every call.
            advance: Told 0 before an attempt is repeated; may raise to stop instead, as it does after a signal, which
                may have ended the reading processes as well.
        """
        self._source, self._draws_from, self._advance = source, draws_from, advance
        self._stream: Iterator[Bag] | None = None
        self._position = self._taken = 0

    def steadily(self, work: Callable[[], Result]) -> Result:
        """Does `work`, which takes bags from here; where their slide cannot be read, again from its first bag.

        Raises:
            UnreadableSlideError: The last attempt failed too.
            SlideError: The readers died again and again.
        """
        for wait in (*RETRY_SECONDS, None):
            self._taken = 0
            try:
                result = work()
            except SlideError:
                self.close()
                self._advance(0)
                if wait is None:
                    raise
                time.sleep(wait)
            else:
                self._position += self._taken
                return result
        raise AssertionError("the last attempt returns or raises")

    def __next__(self) -> Bag:
        if self._stream is None:
            self._stream = iter(self._source.bags(self._draws_from(self._position)))
        bag = next(self._stream)
        self._taken += 1
        return bag

    def close(self) -> None:
        """Ends the reading processes; a traceback that holds the stream would keep them alive."""
        if isinstance(self._stream, Generator):
            self._stream.close()
        self._stream = None

    def __enter__(self) -> "SteadyBags":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
