"""Cached embeddings: each clip is encoded once by the frozen encoder if its tokens fit in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from otoscope.encoders import Encoder, Features
from otoscope.finetuning.features import collate, to_device
from otoscope.probes import Probe
from otoscope.train import loader
from otoscope.types import Tokens


def embeddings_loader(
    encoder: Encoder,
    head: Probe,
    layers: tuple[int, ...],
    features: Sequence[Features],
    batch_size: int,
    *,
    progress: bool = False,
) -> loader.Loader:
    """A loader of the tokens that a head reads, from an encoder in evaluation mode and without a gradient.

    Tokens of up to `loader.IN_MEMORY` bytes are computed once; otherwise each call encodes its clips again. All clips
    are padded to the longest clip, so that the tokens of a clip do not depend on its batch.

    Parameters
    ----------
    encoder : computes the tokens on its device.
    head : the probe that reads the tokens.
    layers : encoder layers that the head reads.
    features : n batches of one clip each.
    batch_size : number of clips per batch.
    progress : whether to show a progress bar on stderr.

    Returns
    -------
    Loader. Clip indices int64 [B] to tokens on the CPU.
    """
    frames = max(clip.x.shape[1] for clip in features)
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def encode(index: Tensor) -> Tokens:
        encoder.eval()
        batch = to_device(collate([features[i] for i in index.tolist()], frames), device)
        return loader.select(encoder.embed(batch), head.reads, layers).to("cpu")

    batches = torch.split(torch.arange(len(features)), batch_size)
    first = encode(batches[0])
    if first.x[0].numel() * 4 * len(features) > loader.IN_MEMORY:
        return encode
    remaining = tqdm(batches[1:], desc="encoding", unit="batch", disable=not progress, leave=False)
    tokens = loader.join([first, *(encode(index) for index in remaining)])
    return loader.tokens_loader(tokens, head.reads, tuple(range(len(layers))), normalise=head.normalises_tokens)
