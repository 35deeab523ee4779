"""Digests that identify the weights of an encoder and the encoder as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from otoscope.identity import digest_of


def encoder_identity(name: str, options: str, code: str, weights: str, front_end: str) -> str:
    """Compute the identity of an encoder from its parts.

    Parameters
    ----------
    name : registered name.
    options, code : `options_text` and `code_text` of `otoscope.identity.Identified`.
    weights : `Encoder.digest`.
    front_end : `Encoder.front_end_id`.

    Returns
    -------
    The hexadecimal sha256.
    """
    return digest_of("encoder", name, options, code, weights, front_end)


def weights_digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """Compute the sha256 of tensors and their names.

    Parameters
    ----------
    named : pairs of a name and a tensor, in any order.

    Returns
    -------
    The hexadecimal digest over names, dtypes, shapes and bytes, in alphabetical order of the names.
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda item: item[0]):
        flat = tensor.detach().cpu().contiguous()
        sha.update(f"{name} {flat.dtype} {list(flat.shape)}\n".encode())
        sha.update(flat.view(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return sha.hexdigest()
