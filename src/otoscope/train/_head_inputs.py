"""The features in front of the last linear layer of a probe, in memory or in a temporary file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from otoscope.probes import LinearHeadBase
from otoscope.train import loader

IN_MEMORY = 2 * 1024**3
"""Largest size of the features of a split, in bytes of float32, that are kept in memory."""
_CLIPS_AT_ONCE = 32


def fits_in_memory(shape: Sequence[int]) -> bool:
    """Whether features of this shape [n, W] are kept in memory."""
    return 4 * math.prod(shape) <= IN_MEMORY


@contextmanager
def head_inputs(module: LinearHeadBase, load: loader.Loader, clips: int, device: torch.device) -> Iterator[Tensor]:
    """Compute the input of the last linear layer of a clip probe for every clip of a split.

    Features of more than `IN_MEMORY` bytes are written to a file in the folder for temporary files (`TMPDIR`), which is
    deleted at the end of the `with` block. The tensor is then memory-mapped.

    Parameters
    ----------
    module : the probe, in evaluation mode.
    load : loads the clips by their index.
    clips : number of clips, n.
    device : device of the probe.

    Returns
    -------
    A context manager that gives float32 [n, W].
    """
    with _storage(clips, module.last_layer.in_features, device) as stored:
        start = 0
        for part, _ in _batches(module, load, clips, device):
            stored[start : start + len(part)] = part
            start += len(part)
        yield stored


@contextmanager
def frame_inputs(
    module: LinearHeadBase, load: loader.Loader, clips: int, steps: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute the input of the last linear layer of a frame probe for every valid time step of a split.

    Large features are memory-mapped as in `head_inputs`.

    Parameters
    ----------
    module, load, clips, device : as for `head_inputs`.
    steps : number of time steps of each clip, T, with padding.

    Returns
    -------
    A context manager that gives the features of the m valid time steps of all clips in order, float32 [m, W], and the
    mask, bool [n, T] on the CPU.
    """
    with _storage(clips * steps, module.last_layer.in_features, device) as stored:
        start, masks = 0, []
        for part, mask in _batches(module, load, clips, device):
            valid = part[mask]
            stored[start : start + len(valid)] = valid
            start += len(valid)
            masks.append(mask.cpu())
        yield stored[:start], torch.cat(masks)


def _batches(
    module: LinearHeadBase, load: loader.Loader, clips: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The input of the last linear layer and the mask, for batches of clips."""
    batches = torch.split(torch.arange(clips), _CLIPS_AT_ONCE)
    with torch.no_grad(), loader.prefetch(load, batches, device) as loaded:
        for tokens in loaded:
            on_device = tokens.to(device)
            yield module.linear_input(on_device), on_device.mask


@contextmanager
def _storage(rows: int, width: int, device: torch.device) -> Iterator[Tensor]:
    """A tensor for features, float32 [rows, width]."""
    if fits_in_memory((rows, width)):
        yield torch.empty(rows, width, device=device)
        return
    with tempfile.TemporaryDirectory(prefix="otoscope-", ignore_cleanup_errors=True) as folder:
        yield torch.from_numpy(np.memmap(Path(folder) / "features", np.float32, "w+", shape=(rows, width)))
