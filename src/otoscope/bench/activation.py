"""One clip through a prototype probe: which prototype speaks for the class it got right, and where in the clip."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from otoscope.audio.waveform import waveform
from otoscope.bank import BankSplit
from otoscope.encoders import Encoder
from otoscope.probes import SharedPrototypes
from otoscope.results.activation_map import ActivationMap
from otoscope.train import FittedProbe, loader
from otoscope.types import AudioBatch, Clip

_SEVERAL = 3


def show(
    fitted: FittedProbe, split: BankSplit, encoder: Encoder, clips: Mapping[str, Clip], encoder_name: str
) -> ActivationMap:
    """The exhibit of a split: a clip, a class and a prototype, chosen by rule.

    The clip is the one whose strongest class is present with the largest logit, among clips of at least three events if
    there are such (else among all); the prototype is the one that adds most to this class beyond what it adds in the
    average clip, W[c, k] (s[k] - mean s[k]). `clips` by id give audio and events. `ValueError` for a probe without
    shared prototypes, or one that mixes layers.
    """
    module = fitted.module
    if not isinstance(module, SharedPrototypes) or len(fitted.layers) > 1:
        raise ValueError(
            f"probe {fitted.probe!r} has no single-layer prototypes to show; allowed: 'protobin' and its kin"
        )
    serve = loader.split_loader(split, "tokens", fitted.layers)
    batches = [serve(index) for index in torch.split(torch.arange(len(split)), 64)]
    with torch.no_grad():
        max_similarity = torch.cat(
            [module.prototypes.max_similarity(b.normalised().flat[:, 0], b.token_mask) for b in batches]
        )
        row, column = _choose(module.head(max_similarity), split)
        prototype = _speaker(module.head.weight[column], max_similarity, row)
        tokens = serve(torch.tensor([row]))
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
    """Row and class of the clip to show."""
    several = torch.tensor([len(events) >= _SEVERAL for events in split.events])
    allowed = several if bool(several.any()) else torch.ones_like(several)
    present = split.targets > 0
    right = present.gather(1, logits.argmax(1, keepdim=True))[:, 0]
    sobol_points = allowed & right if bool((allowed & right).any()) else allowed
    shown = logits.masked_fill(~present, -torch.inf).masked_fill(~sobol_points[:, None], -torch.inf)
    return divmod(int(shown.argmax()), logits.shape[1])


def _speaker(weights: Tensor, max_similarity: Tensor, row: int) -> int:
    """The prototype that raises a class of these weights [K] most in clip `row`, above its average of [n, K]."""
    return int((weights * (max_similarity[row] - max_similarity.mean(0))).argmax())
