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

from otoscope.probes import LinearHeadProbe
from otoscope.train import loader

IN_MEMORY = 2 * 1024**3
"""Largest size of the features of a split, in bytes of float32, that are kept in memory."""
_CLIPS_AT_ONCE = 32


def fits_in_memory(shape: Sequence[int]) -> bool:
    """Whether features of this shape [n, W] are kept in memory."""
    return 4 * math.prod(shape) <= IN_MEMORY


@contextmanager
def head_inputs(module: LinearHeadProbe, load: loader.Loader, clips: int, device: torch.device) -> Iterator[Tensor]:
    """Compute the input of the last linear layer for every clip of a split.

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
    width = module.last_layer.in_features
    with _storage(clips, width, device) as stored:
        start = 0
        with torch.no_grad(), loader.prefetch(load, torch.split(torch.arange(clips), _CLIPS_AT_ONCE)) as loaded:
            for tokens in loaded:
                part = module.linear_input(tokens.to(device))
                stored[start : start + len(part)] = part
                start += len(part)
        yield stored


@contextmanager
def _storage(clips: int, width: int, device: torch.device) -> Iterator[Tensor]:
    """A tensor for features, float32 [clips, width]."""
    if fits_in_memory((clips, width)):
        yield torch.empty(clips, width, device=device)
        return
    with tempfile.TemporaryDirectory(prefix="otoscope-", ignore_cleanup_errors=True) as folder:
        yield torch.from_numpy(np.memmap(Path(folder) / "features", np.float32, "w+", shape=(clips, width)))
