"""The waveforms of clips in order, decoded here or ahead of time by worker processes.

Workers are forked, so that they have the clips without pickling them. They do not run the encoder. A worker ends with
this process.
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

import torch

from otoscope.bank.errors import BankError
from otoscope.datasets.audio_report import report_faults, reporting_audio
from otoscope.datasets.waveform import waveform
from otoscope.threads import available_cores, end_with_parent
from otoscope.types import Clip, Wave

HELD_SAMPLES = 1 << 26
"""Samples that may wait for the encoder: 256 MiB. At least one clip of each worker may wait, however long it is."""

_TASK_SAMPLES = 1 << 21
"""Samples of the clips that a worker decodes in one task."""

_TASK_CLIPS = 16
"""Largest number of clips of a task."""

_FEW_CLIPS = 256
"""With fewer clips, no worker is started unless workers are requested."""

_MOST_WORKERS = 16

Decoded = list[tuple[Wave, list[str]]]
"""The waveform of each clip of a task, and the names of its faults (`otoscope.audio.faults`)."""


def default_workers(clips: int, device: torch.device) -> int:
    """Choose the number of workers: none for few clips, few beside an encoder that needs the processor itself.

    Parameters
    ----------
    clips : int. Number of clips to decode.
    device : torch.device. Where the encoder runs.

    Examples
    --------
    >>> default_workers(10, torch.device("cpu"))
    0
    """
    if clips < _FEW_CLIPS or not can_fork():
        return 0
    cores = available_cores()
    return max(1, cores // 4 if device.type == "cpu" else min(_MOST_WORKERS, cores - 1))


def can_fork() -> bool:
    """Whether this process can start workers: on Linux, in a process that is no daemon."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


@contextmanager
def decoded(clips: Sequence[Clip], rate: int, workers: int) -> Iterator[Iterator[Wave]]:
    """Iterate over the waveforms of clips, in order.

    Parameters
    ----------
    clips : sequence of Clip. The clips.
    rate : int. Sampling rate of the waveforms in Hz.
    workers : int. Number of worker processes that decode and resample ahead; 0 to do it here when it is needed.

    Yields
    ------
    iterator of float32 [S]. It raises the errors of `otoscope.datasets.waveform.waveform` at the clip that causes them.

    Raises
    ------
    ValueError : when workers are requested and this process cannot start any.
    BankError : when a worker dies.
    """
    if not workers:
        yield (waveform(clip, rate) for clip in clips)
        return
    if not can_fork():
        raise ValueError(
            f"{workers} loader workers were requested; they are available on Linux, outside of daemon processes: "
            "request 0"
        )
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), _start, (clips, rate))
    try:
        yield _ahead(pool, clips, workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(pool: ProcessPoolExecutor, clips: Sequence[Clip], workers: int) -> Iterator[Wave]:
    """Yield waveforms in order, while the workers decode as many clips ahead as `HELD_SAMPLES` allows."""
    pending: deque[tuple[range, Future[Decoded]]] = deque()
    submitted, longest = 0, 0
    try:
        while submitted < len(clips) or pending:
            most = HELD_SAMPLES // longest if longest else workers
            while submitted < len(clips) and (len(pending) < workers or submitted - pending[0][0].start < most):
                count = min(_TASK_CLIPS, max(1, _TASK_SAMPLES // longest)) if longest else 1
                rows = range(submitted, min(submitted + count, len(clips)))
                pending.append((rows, _submit(pool, rows)))
                submitted = rows.stop
            rows, future = pending.popleft()
            for row, (wave, faults) in zip(rows, future.result(), strict=True):
                longest = max(longest, len(wave))
                report_faults(clips[row], faults)
                yield wave
    except BrokenExecutor as error:
        raise BankError(
            "a loader worker ended abruptly; the usual cause is that memory ran out and the operating system killed "
            "it. Run extract again with fewer --loader-workers; finished shards are kept"
        ) from error


def _submit(pool: ProcessPoolExecutor, rows: range) -> Future[Decoded]:
    with warnings.catch_warnings():
        # Python 3.12 warns that this process has threads. The workers use none of their locks.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        return pool.submit(_decode, rows)


# In a worker

_clips: Sequence[Clip] = ()
_rate = 0


def _start(clips: Sequence[Clip], rate: int) -> None:
    global _clips, _rate
    _clips, _rate = clips, rate
    torch.set_num_threads(1)  # a data set may use torch, whose threads do not exist after the fork
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process shuts the workers down
    threading.Thread(target=end_with_parent, name="otoscope-parent", daemon=True).start()


def _decode(rows: range) -> Decoded:
    try:
        return [_decode_one(_clips[row]) for row in rows]
    except Exception as error:
        raise _picklable(error) from None


def _decode_one(clip: Clip) -> tuple[Wave, list[str]]:
    with reporting_audio() as report:
        return waveform(clip, _rate), list(report.faulty)


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
