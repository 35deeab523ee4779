"""Compilation of an encoder with torch.compile, without the logs of the compiler."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from otoscope.encoders import Encoder, Features
from otoscope.types import Tokens

ANNOUNCEMENT = (
    "compiling the encoder: the first batch takes up to some minutes, and so does the first one of another length"
)
"""What is printed before a compiled encoder is used."""


def compiled_embed(encoder: Encoder) -> Callable[..., Tokens]:
    """Compile what an encoder computes: the modules that it names, or else its whole `embed_layers`.

    The encoder itself is not changed: its modules call their compiled code only inside the returned function.

    Parameters
    ----------
    encoder : Encoder. The frozen encoder.

    Returns
    -------
    callable. It takes the arguments of `embed_layers` and returns the same up to rounding.
    """
    blocks = encoder.compiled_blocks()
    if not blocks:
        whole = torch.compile(encoder.embed_layers)

        def embed_whole(features: Features, layers: Sequence[int]) -> Tokens:
            with _quiet():
                return whole(features, layers=layers)

        return embed_whole
    forwards = {block: torch.compile(block.forward) for block in blocks}

    def embed(features: Features, layers: Sequence[int]) -> Tokens:
        with _quiet(), _replaced(forwards):
            return encoder.embed_layers(features, layers=layers)

    return embed


@contextmanager
def _replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules call other functions than their `forward` inside the `with` block; their hooks are called as well."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the logs and warnings of the compiler, which name lines of code and not what is wrong."""
    loggers = [logging.getLogger(name) for name in ("torch._dynamo", "torch._inductor")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.(_dynamo|_inductor)")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
