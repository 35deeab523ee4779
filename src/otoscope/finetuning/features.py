"""Features of clips for fine-tuning: heard once, collated into batches, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from otoscope.audio.waveform import waveform
from otoscope.encoders import Encoder, Features
from otoscope.types import AudioBatch, Clip


def extract_features(encoder: Encoder, clips: Sequence[Clip], *, progress: bool = False) -> list[Features]:
    """The features of each clip by itself, from audio resampled to the encoder's rate."""
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    heard = []
    for clip in tqdm(clips, desc="features", unit="clip", disable=not progress, leave=False):
        wave = waveform(clip, encoder.sample_rate)
        batch = AudioBatch.of([wave], encoder.sample_rate)
        features = encoder.front_end(AudioBatch(batch.waves.to(device), batch.lengths.to(device), batch.rate))
        heard.append(to(features, torch.device("cpu")))
    return heard


def collate(features: Sequence[Features], frames: int = 0) -> Features:
    """One batch of single clips, padded with zeros to the longest, and at least to `frames`."""
    frames = max(frames, *(f.x.shape[1] for f in features))
    x = torch.cat([functional.pad(f.x, (0, 0, 0, frames - f.x.shape[1])) for f in features])
    return Features(x, torch.cat([f.lengths for f in features]))


def to(features: Features, device: torch.device) -> Features:
    """The same features on a device."""
    return Features(features.x.to(device), features.lengths.to(device))


@torch.no_grad()
def predict(module: nn.Module, heard: Sequence[Features], batch_size: int) -> Tensor:
    """Logits of clips, float32 [n, C] on the CPU; leaves the module in eval mode."""
    device = next(module.parameters()).device
    module.eval()
    starts = range(0, len(heard), batch_size)
    return torch.cat([module(to(collate(heard[i : i + batch_size]), device)).float().cpu() for i in starts])
