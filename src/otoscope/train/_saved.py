"""The files of a saved probe, which may be damaged or come from others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from otoscope.files import read_json

FORMAT = 3
"""Version of the files."""
EARLIER_CONFIG = {"standardise": False, "min_steps": 0, "resolve_head": False}
"""What format 2 trained without, as settings of `TrainingConfig`."""
SAVED = ("probe", "options", "task", "shape", "config", "protocol", "history", "validation", "train_seconds")
SAVED_LATER = {"not_converged": None}
"""Fields that files of older versions do not have, with the values they get."""

_MAX_RATIO, _MIN_LIMIT = 64, 256 << 20
"""A probe may take 64 times the size of its file (signs are saved as bits), and always 256 MiB."""


def read_saved(folder: Path) -> dict[str, Any]:
    """Read `probe.json`, with the fields of the current format.

    Raises
    ------
    FileNotFoundError : if no probe was saved in the folder.
    ValueError : if the file is damaged, or another version of otoscope wrote it.
    """
    file = folder / "probe.json"
    if not file.exists():
        raise FileNotFoundError(f"no saved probe in {folder} (probe.json is not there); FittedProbe.save writes one")
    try:
        saved: dict[str, Any] = SAVED_LATER | read_json(file)
        written = saved.pop("format", None)
        if written == 2:
            saved["config"] = EARLIER_CONFIG | saved["config"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} is damaged: {error}; fit the probe again") from error
    if written not in (2, FORMAT) or set(saved) != {*SAVED, *SAVED_LATER}:
        raise ValueError(f"{file} was written by another version of otoscope; fit the probe again")
    return saved


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a saved probe.

    Raises
    ------
    ValueError : if the file is damaged.
    """
    file = folder / "probe.safetensors"
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is not a regular file")
        return load_file(file)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is damaged: {error}; fit the probe again") from error


def check_size(folder: Path, create: Callable[[], nn.Module]) -> None:
    """Check that the probe that `probe.json` describes is not much larger than the file with its tensors.

    Parameters
    ----------
    folder : folder of the saved probe.
    create : creates the probe. It is called without memory for tensors, and its errors are ignored.

    Raises
    ------
    ValueError : if the probe is too large.
    """
    try:
        with torch.device("meta"):
            tensors = create().state_dict().values()
        needed = sum(tensor.numel() * tensor.itemsize for tensor in tensors)
    except Exception:  # some probes cannot be created without memory
        return
    allowed = max(_MIN_LIMIT, _MAX_RATIO * (folder / "probe.safetensors").stat().st_size)
    if needed > allowed:
        raise ValueError(
            f"{folder / 'probe.json'} is damaged: it describes a probe of {needed / 1e9:.3g} GB, which does not fit "
            "the size of probe.safetensors; fit the probe again"
        )
