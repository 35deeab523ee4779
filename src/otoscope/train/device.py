"""The device of a training."""

from __future__ import annotations

import torch


def usable_device(device: str | torch.device | None) -> torch.device:
    """Return a device after a check that this machine has it.

    Parameters
    ----------
    device : the device, or its name; None for the CPU.

    Raises
    ------
    ValueError : for a device that cannot be used on this machine.

    Examples
    --------
    >>> usable_device(None)
    device(type='cpu')
    """
    try:
        chosen = torch.device("cpu" if device is None else device)
        torch.empty(0, device=chosen)
    except Exception as error:  # torch raises several types, AssertionError among them
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {str(device)!r} cannot be used on this machine ({reason}); available: {', '.join(_available())}"
        ) from error
    return chosen


def _available() -> list[str]:
    """Names of the devices of this machine."""
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *mps]
