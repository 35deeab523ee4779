"""The activation of one prototype over one clip: its similarity with every token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from otoscope.bank import BankSplit
from otoscope.datasets.waveform import waveform
from otoscope.encoders import Encoder
from otoscope.probes import SharedPrototypes
from otoscope.results.activation_map import ActivationMap
from otoscope.train import FittedProbe
from otoscope.types import AudioBatch, Clip

_MIN_EVENTS = 3
"""Clips with at least this number of events are preferred."""


def map_activation(
    fitted: FittedProbe, split: BankSplit, encoder: Encoder, clips: Mapping[str, Clip], encoder_name: str
) -> ActivationMap:
    """The activation map of one prototype on one clip of a split.

    The clip and its class c have the largest logit of a correct class. If any clip has at least three events, only such
    clips are considered. The prototype k has the largest contribution to the logit of c, relative to its mean
    contribution over clips: W[c, k] (s[k] - mean s[k]).

    Parameters
    ----------
    fitted : a trained probe with shared prototypes that reads one layer.
    split : the split; its tokens are read.
    encoder : the encoder; its front end makes the spectrogram.
    clips : clips of the split by id, for audio and events.
    encoder_name : label of the encoder.

    Returns
    -------
    ActivationMap. Spectrogram, similarity of the prototype with every token, and the true events.

    Raises
    ------
    ValueError : for a probe without shared prototypes, or one that reads several layers.
    """
    module = fitted.module
    if not isinstance(module, SharedPrototypes) or len(fitted.layers) > 1:
        raise ValueError(
            f"probe {fitted.probe!r} has no single-layer prototypes; use a probe with shared prototypes, such as "
            "'protobin'"
        )
    load = fitted.loader(split)
    batches = [load(index) for index in torch.split(torch.arange(len(split)), 64)]
    with torch.no_grad():
        max_similarity = torch.cat(
            [module.prototypes.max_similarity(b.normalised().flat[:, 0], b.token_mask) for b in batches]
        )
        row, column = _choose(module.head(max_similarity), split)
        prototype = _strongest_prototype(module.head.weight[column], max_similarity, row)
        tokens = load(torch.tensor([row]))
        activation = module.prototypes.similarity(tokens.x[0, 0])[tokens.mask[0], :, prototype]
    clip = clips[split.ids[row]]
    wave = waveform(clip, encoder.sample_rate)
    features = encoder.front_end(AudioBatch.of([wave], encoder.sample_rate))
    frames = int(features.lengths[0])
    return ActivationMap(
        clip_id=clip.id,
        log_mel=features.x[0, :frames].cpu().numpy().astype(np.float32),
        hop_seconds=len(wave) / encoder.sample_rate / frames,
        activation=activation.numpy().astype(np.float32),
        frame_rate=fitted.shape.frame_rate,
        class_name=fitted.task.classes[column],
        prototype=prototype,
        event_onsets=np.array([event.onset for event in clip.events], np.float32),
        event_offsets=np.array([event.offset for event in clip.events], np.float32),
        event_labels=tuple(event.label for event in clip.events),
        true_labels=clip.labels,
        encoder=encoder_name,
        probe=fitted.probe,
    )


def _choose(logits: Tensor, split: BankSplit) -> tuple[int, int]:
    """Row and class of the clip, from logits [n, C]."""
    several = torch.tensor([len(events) >= _MIN_EVENTS for events in split.events])
    allowed = several if bool(several.any()) else torch.ones_like(several)
    present = split.targets > 0
    correct = present.gather(1, logits.argmax(1, keepdim=True))[:, 0]
    candidates = allowed & correct if bool((allowed & correct).any()) else allowed
    masked = logits.masked_fill(~present, -torch.inf).masked_fill(~candidates[:, None], -torch.inf)
    return divmod(int(masked.argmax()), logits.shape[1])


def _strongest_prototype(weights: Tensor, max_similarity: Tensor, row: int) -> int:
    """The prototype with the largest contribution to a class in one clip, relative to the average clip.

    Parameters
    ----------
    weights : float [K]. Weights of the class.
    max_similarity : float [n, K]. Largest similarity of each prototype in each clip.
    row : the clip.
    """
    return int((weights * (max_similarity[row] - max_similarity.mean(0))).argmax())
