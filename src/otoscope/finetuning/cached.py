"""What a head reads of an encoder that stands still: each clip is encoded once, if its tokens fit in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from otoscope.encoders import Encoder, Features
from otoscope.finetuning.features import collate, to
from otoscope.probes import Probe
from otoscope.train import loader
from otoscope.types import Tokens


def embeddings_loader(
    encoder: Encoder,
    head: Probe,
    layers: tuple[int, ...],
    heard: Sequence[Features],
    batch_size: int,
    *,
    progress: bool = False,
) -> loader.Loader:
    """Serve the tokens of clips as `head` reads them, on the CPU, by the encoder in eval mode and without gradient.

    Up to `loader.IN_MEMORY` bytes they are encoded once, now; what is larger is encoded anew by each call. Clips are
    padded to the longest of `heard`, so that a clip's tokens do not hang on its batch.
    """
    frames = max(features.x.shape[1] for features in heard)
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))

    @torch.no_grad()
    def encode(index: Tensor) -> Tokens:
        encoder.eval()
        batch = to(collate([heard[i] for i in index.tolist()], frames), device)
        return loader.select(encoder.embed(batch), head.reads, layers).to("cpu")

    batches = torch.split(torch.arange(len(heard)), batch_size)
    first = encode(batches[0])
    if first.x[0].numel() * 4 * len(heard) > loader.IN_MEMORY:
        return encode
    rest = tqdm(batches[1:], desc="encoding", unit="batch", disable=not progress, leave=False)
    parts = [first, *(encode(index) for index in rest)]
    heads = [part.cls for part in parts if part.cls is not None]
    held = Tokens(
        torch.cat([part.x for part in parts]),
        torch.cat([part.mask for part in parts]),
        torch.cat(heads) if heads else None,
    )
    return loader.tokens_loader(held, head.reads, tuple(range(len(layers))), normalise=head.normalises_tokens)
