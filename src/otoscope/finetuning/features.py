"""Features of clips: extraction, batches, and the logits of a module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from otoscope.datasets.waveform import waveform
from otoscope.encoders import Encoder, Features
from otoscope.types import AudioBatch, Clip


def extract_features(encoder: Encoder, clips: Sequence[Clip], *, progress: bool = False) -> list[Features]:
    """Apply the front end of an encoder to clips.

    Parameters
    ----------
    encoder : the encoder. Its front end runs on the device of its weights.
    clips : n clips; they are resampled to the rate of the encoder.
    progress : whether to show a progress bar on stderr.

    Returns
    -------
    n batches of one clip each, on the CPU.

    Raises
    ------
    AudioError : for a clip without usable audio.
    """
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    extracted = []
    for clip in tqdm(clips, desc="features", unit="clip", disable=not progress, leave=False):
        batch = AudioBatch.of([waveform(clip, encoder.sample_rate)], encoder.sample_rate)
        features = encoder.front_end(AudioBatch(batch.waves.to(device), batch.lengths.to(device), batch.rate))
        extracted.append(to_device(features, torch.device("cpu")))
    return extracted


def collate(features: Sequence[Features], frames: int = 0) -> Features:
    """Join single clips into one batch, padded with zeros.

    Parameters
    ----------
    features : B batches of one clip each.
    frames : minimum number of frames of the batch, which is at least as long as the longest clip.

    Returns
    -------
    Features. `x` is float [B, max frames, bins].
    """
    frames = max(frames, *(f.x.shape[1] for f in features))
    x = torch.cat([functional.pad(f.x, (0, 0, 0, frames - f.x.shape[1])) for f in features])
    return Features(x, torch.cat([f.lengths for f in features]))


def to_device(features: Features, device: torch.device) -> Features:
    """The same features on a device.

    Parameters
    ----------
    features : features of B clips.
    device : where to move them.
    """
    return Features(features.x.to(device), features.lengths.to(device))


@torch.no_grad()
def predict(module: nn.Module, features: Sequence[Features], batch_size: int) -> Tensor:
    """Logits of clips. The module is switched to evaluation mode.

    Parameters
    ----------
    module : maps features to logits.
    features : n batches of one clip each.
    batch_size : number of clips per batch.

    Returns
    -------
    float32 [n, C]. Logits, on the CPU.
    """
    device = next(module.parameters()).device
    module.eval()
    batches = (features[start : start + batch_size] for start in range(0, len(features), batch_size))
    return torch.cat([module(to_device(collate(batch), device)).float().cpu() for batch in batches])
