"""Functions that take turns, so that they share passes over clips that are encoded on the fly.

Each function runs in a thread of its own, but only one of them runs at a time: it runs until it requests a batch. When
all of them wait, the functions that request the same pass (the same batches of the same clips) are served together, and
every batch is encoded once for all of them. The global random numbers of torch belong to the function that runs, so
that its result is the one that it has alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Batches = Sequence[Sequence[int]]
Tensors = dict[str, Tensor]


class Source(Protocol):
    """Encodes clips."""

    def encoding(self, batches: Batches, layers: Sequence[int]) -> AbstractContextManager[Iterator[Tensors]]:
        """Encode batches of rows, one after another."""


def pick_layers(tensors: Tensors, layers: Sequence[int]) -> Tensors:
    """Some layers of the tensors of `otoscope.bank._shard.shard_layout`, by their position."""
    index = list(layers)
    if index == list(range(tensors["x"].shape[1])):
        return tensors
    return {name: values if name == "mask" else values[:, index] for name, values in tensors.items()}


@dataclass(eq=False)
class _Request:
    """A pass that a function requests."""

    source: Source
    batches: Batches
    layers: Sequence[int]

    def shares(self, other: _Request) -> bool:
        """Whether both passes encode the same clips in the same batches."""
        return self.source is other.source and self.batches == other.batches

    @property
    def in_order(self) -> bool:
        """Whether the clips are read in order, as in a validation; those of an epoch are not."""
        return list(self.batches[0]) == sorted(self.batches[0])


class _Ended(BaseException):
    """Ends a function whose result is no longer needed."""


class Turn:
    """One of the functions that take turns.

    Parameters
    ----------
    function : what is executed.
    random : state of torch's generators at its start.
    """

    def __init__(self, function: Callable[[], Any], random: list[Tensor]) -> None:
        self._function, self._random = function, random
        self.request: _Request | None = None
        self.delivered: Tensors | Exception | None = None
        self.result: Any = None
        self.done = self.cancelled = False
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run, name="otoscope-turn", daemon=True)

    def resume(self) -> None:
        """Let the function run until it requests a batch or ends."""
        before = _random_state()
        _set_random_state(self._random)
        if self.thread.ident is None:
            self.thread.start()
        else:
            self._go.release()
        self._paused.acquire()
        self._random = _random_state()
        _set_random_state(before)

    def cancel(self) -> None:
        """End the function at its next request."""
        self.cancelled = True
        self._go.release()
        if self.thread.ident is not None:
            self.thread.join()

    # In the thread

    @contextmanager
    def reading(self, source: Source, batches: Batches, layers: Sequence[int]) -> Iterator[Iterator[Tensors]]:
        """Request a pass and read its batches. A pass inside another one is not shared."""
        if self.request is not None:
            with source.encoding(batches, layers) as tensors:
                yield tensors
            return
        self.request = _Request(source, batches, layers)
        try:
            yield (self._next() for _ in batches)
        finally:
            self.request = None

    def _next(self) -> Tensors:
        self._paused.release()
        self._go.acquire()
        if self.cancelled:
            raise _Ended
        delivered, self.delivered = self.delivered, None
        if isinstance(delivered, Exception):
            raise delivered
        assert delivered is not None
        return delivered

    def _run(self) -> None:
        _local.turn = self
        try:
            self.result = self._function()
        except _Ended:
            pass
        except Exception as error:
            self.result = error
        finally:
            self.done = True
            self._paused.release()


_local = threading.local()


def current_turn() -> Turn | None:
    """The function that takes its turn in this thread; None in other threads."""
    turn: Turn | None = getattr(_local, "turn", None)
    return turn


def take_turns(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Execute functions that read the same clips, and encode the batches that they request at the same time once.

    Functions that read clips in order are served first, so that the others begin their epochs together.

    Parameters
    ----------
    functions : sequence of functions without arguments.

    Returns
    -------
    list. What each function returned, or the exception that it raised.

    Examples
    --------
    >>> take_turns([lambda: 1, lambda: 1 / 0])
    [1, ZeroDivisionError('division by zero')]
    """
    turns = [Turn(function, _random_state()) for function in functions]
    try:
        for turn in turns:
            turn.resume()
        while waiting := [turn for turn in turns if not turn.done]:
            _serve(_chosen(waiting))
    finally:
        for turn in turns:
            if not turn.done:
                turn.cancel()
    return [turn.result for turn in turns]


def _chosen(waiting: Sequence[Turn]) -> list[Turn]:
    """The functions to serve next, which request the same pass."""
    first = min((turn.request for turn in waiting if turn.request), key=lambda request: not request.in_order)
    return [turn for turn in waiting if turn.request and turn.request.shares(first)]


def _serve(turns: list[Turn]) -> None:
    """Encode the pass that these functions request, and let each of them run with every batch."""
    requests = {turn: turn.request for turn in turns}
    first = requests[turns[0]]
    assert first is not None
    layers = sorted({layer for request in requests.values() if request for layer in request.layers})
    try:
        with first.source.encoding(first.batches, layers) as encoded:
            for tensors in encoded:
                for turn in [turn for turn in turns if turn.request is requests[turn]]:
                    assert turn.request is not None
                    turn.delivered = pick_layers(tensors, [layers.index(layer) for layer in turn.request.layers])
                    turn.resume()
                if all(turn.request is not requests[turn] for turn in turns):
                    return
    except Exception as error:
        for turn in [turn for turn in turns if turn.request is requests[turn]]:
            turn.delivered = error
            turn.resume()


def _random_state() -> list[Tensor]:
    """The states of torch's global generators: that of the CPU, and those of the graphics cards that are in use."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *cuda]


def _set_random_state(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])
