"""The clips of an extraction in order, loaded here or ahead of time by worker processes.

Loading is decoding, resampling and, beside an encoder on the CPU, the front end. Workers are forked, so that they have
the clips and the encoder without pickling them. A worker ends with this process.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import torch

from otoscope.bank._encode import Loaded, Stopwatch
from otoscope.bank._shared_arrays import Array, Placed, SharedArrays, Slot
from otoscope.bank.errors import BankError
from otoscope.datasets.audio_report import report_faults, reporting_audio
from otoscope.encoders import Features
from otoscope.threads import available_cores, end_with_parent
from otoscope.types import Clip

WAITING_VALUES = 1 << 26
"""Samples or features that may wait for the encoder: 256 MiB. One clip of each worker may wait, however long it is."""

_TASK_VALUES = 1 << 21
"""Samples or features of the clips that a worker loads in one task."""

_TASK_CLIPS = 16
"""Largest number of clips of a task."""

_FEW_CLIPS, _FEW_CLIPS_FOR_GPU = 256, 32
"""With fewer clips, no worker is started unless workers are requested, because they take time to start. A GPU encodes a
clip much faster than this process decodes it, so workers are of use with fewer clips."""

_MOST_WORKERS = 16

_TASKS_AHEAD = 4
"""Largest number of tasks of each worker whose clips wait for the encoder."""

Packed = tuple[int, Array | Placed | None, list[Array | Placed], list[str]]
"""A `Loaded` whose samples and features are arrays or places in shared memory, and the faults of its audio."""


class ClipLoader(Protocol):
    """Loads single clips, here or in a worker. `FrozenEncoder` is one."""

    @property
    def watch(self) -> Stopwatch:
        """Measures "audio", the time that the caller waits for the workers."""

    def load(self, clip: Clip) -> Loaded:
        """Load a clip."""


def default_workers(clips: int, device: torch.device, sharing: int = 1) -> int:
    """Choose the number of workers: none for few clips, few beside an encoder that needs the processor itself.

    Parameters
    ----------
    clips : int. Number of clips to load.
    device : torch.device. Where the encoder runs.
    sharing : int. Number of processes that share the cores, this one included.

    Examples
    --------
    >>> default_workers(10, torch.device("cpu"))
    0
    """
    on_cpu, cores = device.type == "cpu", available_cores() // sharing
    if clips < (_FEW_CLIPS if on_cpu else _FEW_CLIPS_FOR_GPU) or not can_fork():
        return 0
    return max(1, cores // 4 if on_cpu else min(_MOST_WORKERS, cores - 1))


def can_fork() -> bool:
    """Whether this process can start workers: on Linux, in a process that is no daemon."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


@contextmanager
def loaded(clips: Sequence[Clip], clip_loader: ClipLoader, workers: int) -> Iterator[Iterator[Loaded]]:
    """Iterate over loaded clips, in order.

    Parameters
    ----------
    clips : sequence of Clip. The clips.
    clip_loader : ClipLoader. What loads a clip.
    workers : int. Number of worker processes; 0 to load each clip here when it is needed.

    Yields
    ------
    iterator of Loaded. It raises the errors of `ClipLoader.load` at the clip that causes them.

    Raises
    ------
    ValueError : when workers are requested and this process cannot start any.
    BankError : when a worker dies.
    """
    if not workers:
        yield map(clip_loader.load, clips)
        return
    if not can_fork():
        raise ValueError(
            f"{workers} loader workers were requested; they are available on Linux, outside of daemon processes: "
            "request 0"
        )
    shared = SharedArrays(min(_TASKS_AHEAD * workers, WAITING_VALUES // _TASK_VALUES), 4 * _TASK_VALUES)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start, (clips, clip_loader, shared))
    try:
        _submit(pool, range(0), None)  # starts the workers here, not in the thread that may read
        yield _ahead(pool, clips, workers, clip_loader.watch, shared)
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ProcessPoolExecutor, clips: Sequence[Clip], workers: int, watch: Stopwatch, shared: SharedArrays
) -> Iterator[Loaded]:
    """Yield loaded clips in order, while the workers load as many ahead as `WAITING_VALUES` allows."""
    pending: deque[tuple[range, Slot | None, Future[list[Packed]]]] = deque()
    submitted, largest = 0, 0
    try:
        while submitted < len(clips) or pending:
            most = WAITING_VALUES // largest if largest else workers
            while submitted < len(clips) and (
                len(pending) < workers
                or (len(pending) < _TASKS_AHEAD * workers and submitted - pending[0][0].start < most)
            ):
                count = min(_TASK_CLIPS, max(1, _TASK_VALUES // largest)) if largest else 1
                rows = range(submitted, min(submitted + count, len(clips)))
                slot = shared.take()
                pending.append((rows, slot, _submit(pool, rows, slot)))
                submitted = rows.stop
            rows, slot, future = pending.popleft()
            with watch.measure("audio"):
                results = future.result()
            for row, packed in zip(rows, results, strict=True):
                report_faults(clips[row], packed[-1])
                clip = _unpacked(packed, shared)
                largest = max(largest, clip.values)
                yield clip
            shared.give_back(slot)
    except BrokenExecutor as error:
        raise BankError(
            "a loader worker ended abruptly; the usual cause is that memory ran out and the operating system killed "
            "it. Run extract again with fewer --loader-workers; finished shards are kept"
        ) from error


def _unpacked(packed: Packed, shared: SharedArrays) -> Loaded:
    samples, wave, arrays, _ = packed
    features = Features(*(torch.from_numpy(shared.get(array)) for array in arrays)) if arrays else None
    return Loaded(samples, None if wave is None else shared.get(wave), features)


def _submit(pool: ProcessPoolExecutor, rows: range, slot: Slot | None) -> Future[list[Packed]]:
    with warnings.catch_warnings():
        # Python 3.12 warns that this process has threads. The workers use none of their locks.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        return pool.submit(_load, rows, slot)


# In a worker

_clips: Sequence[Clip] = ()
_clip_loader: ClipLoader
_shared: SharedArrays


def _start(clips: Sequence[Clip], clip_loader: ClipLoader, shared: SharedArrays) -> None:
    global _clips, _clip_loader, _shared
    _clips, _clip_loader, _shared = clips, clip_loader, shared
    torch.set_num_threads(1)  # after a fork, there are no other threads
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process shuts the workers down
    threading.Thread(target=end_with_parent, name="otoscope-parent", daemon=True).start()


def _load(rows: range, slot: Slot | None) -> list[Packed]:
    try:
        return [_load_one(_clips[row], slot) for row in rows]
    except Exception as error:
        raise _picklable(error) from None


def _load_one(clip: Clip, slot: Slot | None) -> Packed:
    with reporting_audio() as report:
        samples, wave, features = _clip_loader.load(clip)
    tensors = () if features is None else (features.x, features.lengths)
    arrays = [_shared.put(tensor.numpy(), slot) for tensor in tensors]
    return samples, None if wave is None else _shared.put(wave, slot), arrays, list(report.faulty)


def _picklable(error: Exception) -> Exception:
    """The error itself if it survives pickling, else a `RuntimeError` with its text and its notes."""
    try:
        if isinstance(pickle.loads(pickle.dumps(error)), type(error)):
            return error
    except Exception:
        pass
    described = RuntimeError(f"{type(error).__name__}: {error}")
    for note in getattr(error, "__notes__", ()):
        described.add_note(note)
    return described
