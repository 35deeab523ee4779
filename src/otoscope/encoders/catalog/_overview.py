"""One line about each named encoder, for the command `encoders list` and for the documentation."""

from __future__ import annotations

import math

import torch

from otoscope.encoders.base import registry
from otoscope.encoders.catalog._ported import Ported
from otoscope.types import AudioBatch

COLUMNS = ("encoder", "licence", "tokens of 10 s", "layers x width", "cls", "parameters", "labels")
"""The columns of `overview`."""


def ported() -> dict[str, type[Ported]]:
    """Return the named encoders with published weights by name, sorted."""
    classes = {name: registry.get(name) for name in registry.names()}
    return {name: cls for name, cls in classes.items() if issubclass(cls, Ported)}


def overview(name: str, cls: type[Ported]) -> list[str]:
    """Describe a named encoder in one line of a table.

    Parameters
    ----------
    name : its name.
    cls : its class.

    Returns
    -------
    A text for each of `COLUMNS`. The licence is that of the weights, without explanations. The number of tokens is that
    of time steps x frequency bands with audio of a lone clip, as `encode` returns them; "labels" says whether labels
    were used in the pretraining or after it.
    """
    encoder, card = cls.skeleton(), cls.card
    shape = encoder.shape
    return [
        name,
        card.short_licence,
        f"{_count_steps(encoder, 10)} x {shape.freq}",
        f"{shape.layers} x {shape.dim}",
        "yes" if shape.has_cls else "no",
        f"{card.parameters:,.1f} M",
        "yes" if card.supervised else "no",
    ]


def count_steps(cls: type[Ported], seconds: float) -> int:
    """Count the time steps with audio of a lone clip, without the weights of the encoder.

    Parameters
    ----------
    cls : class of the encoder.
    seconds : duration of the clip.

    Returns
    -------
    int. Some encoders drop frames after the last whole patch, so that it may be less than the frame rate promises.

    Examples
    --------
    >>> count_steps(registry.get("eat"), 10), count_steps(registry.get("beats-iter3"), 10)
    (63, 62)
    """
    return _count_steps(cls.skeleton(), seconds)


def _count_steps(encoder: Ported, seconds: float) -> int:
    """The same of a skeleton, whose buffers become tensors on the CPU."""
    for module in encoder.body.modules():
        for key, buffer in module.named_buffers(recurse=False):
            setattr(module, key, torch.ones_like(buffer, device="cpu"))  # statistics, which the front end may read
    samples = round(seconds * encoder.sample_rate)
    clip = AudioBatch(torch.zeros(1, samples), torch.tensor([samples]), encoder.sample_rate)
    return math.ceil(int(encoder.front_end(clip).lengths) / encoder.frames_per_step)
