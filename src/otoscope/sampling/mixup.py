"""Mixup views of a few-shot draw: waveforms are mixed before they are encoded, so that a bank can contain the views.

The few-shot protocol with cached embeddings ("Unmute the Patch Tokens", ICLR 2026) has 64 clips per class and five
views of each, mixed in advance with p = 0.9. The paper does not describe how they are mixed; otoscope mixes them as in
BirdSet (arXiv 2403.10380), by the same group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from otoscope.bank import Bank
from otoscope.datasets.waveform import waveform
from otoscope.results import Views
from otoscope.types import Clip, Task, Wave

P, SNR_DB = 0.9, (0.0, 5.0)
"""The probability that a view is mixed, and the lowest and highest level of a clip relative to its partner in dB."""


def mixup_settings(number: int) -> Views:
    """Return how views are mixed, for a record.

    Parameters
    ----------
    number : views of each clip.
    """
    return Views(number=number, p=P, snr_db=SNR_DB)


def add_mixup_views(clips: Sequence[Clip], task: Task, *, views: int, draw: int = 0, p: float = P) -> list[Clip]:
    """Add mixup views to clips.

    With probability `p`, a view is the mixture of its clip with another clip; otherwise it is the clip itself. The
    partner is added at an RMS level of 0 to 5 dB (uniform) below that of the clip. Both start together, and the view is
    as long as the longer one, so that no event is cut off. A multi-label view has the labels and events of both clips.
    These are the defaults of BirdSet's `MultilabelMix`. Two choices are ours: a multi-class view has the label of its
    clip, which is the louder one; and the clips themselves are kept in addition to their views.

    The random numbers of a view depend on `draw`, the id of the clip and the number of the view; the choice of the
    partner also depends on the number of clips. A single clip has no partner. Audio is decoded when a view is read.

    Parameters
    ----------
    clips : the clips.
    task : the task; its kind decides the labels of a mixture.
    views : number of views of each clip.
    draw : number of the few-shot draw.
    p : probability that a view is mixed.

    Returns
    -------
    The clips, followed by `views` views of each.
    """
    result = list(clips)
    for number in range(views):
        for row, clip in enumerate(clips):
            clip_seed = int.from_bytes(hashlib.sha256(clip.id.encode()).digest()[:8], "big")
            rng = np.random.default_rng([draw, number, clip_seed])
            unmixed, snr = rng.random() >= p or len(clips) == 1, float(rng.uniform(*SNR_DB))
            other = int(rng.integers(max(1, len(clips) - 1)))
            view = replace(clip, id=f"{clip.id}~{number}")
            result.append(view if unmixed else _with_partner(view, clips[other + (other >= row)], snr, task))
    return result


def with_mixup_views(bank: Bank, views: Bank, *, shots: int, draw: int, number: int) -> Bank:
    """Return the bank with clips and mixup views as its train split.

    Parameters
    ----------
    bank : the bank of the data set.
    views : the bank of a `MixupSet`, by the same encoder.
    shots, draw : the few-shot draw from which `views` was made.
    number : views of each clip in `views`.

    Returns
    -------
    A bank with the train split of `views` and the other splits of `bank`.

    Raises
    ------
    ValueError : when the two banks have different encoders, layers, dtypes or contents.
    """
    expected, given = (
        (b.identity.encoder_identity, b.identity.layers, b.identity.dtype, b.identity.content) for b in (bank, views)
    )
    if expected != given:
        raise ValueError(
            f"the views in {views.path} have (encoder, layers, dtype, content) {given}, the clips in {bank.path} "
            f"{expected}; both must be the same: extract the views again"
        )
    sampling = replace(bank.sampling, shots=shots, draw=draw, views=mixup_settings(number))
    return bank.with_splits({"train": views.split("train")}, sampling)


@dataclass(frozen=True)
class _Mixture:
    """Reads a clip mixed with a partner whose level is `snr` dB below it."""

    clip: Clip
    partner: Clip
    snr: float

    def __call__(self) -> Wave:
        wave, other = waveform(self.clip, self.clip.rate), waveform(self.partner, self.clip.rate)
        level, other_level = _rms(wave), _rms(other)
        gain = level / other_level * 10 ** (-self.snr / 20) if level and other_level else 1.0
        mixture = np.zeros(max(len(wave), len(other)), np.float32)
        mixture[: len(wave)] += wave
        mixture[: len(other)] += np.float32(gain) * other
        return mixture


def _with_partner(clip: Clip, partner: Clip, snr: float, task: Task) -> Clip:
    """The mixture of two clips as a clip, with the labels that the task gives it."""
    load = _Mixture(clip, partner, snr)
    groups = tuple(dict.fromkeys((*clip.groups, *partner.groups)))
    if task.kind == "multi-class":
        return replace(clip, load=load, groups=groups)
    labels = tuple(dict.fromkeys((*clip.labels, *partner.labels)))
    return replace(clip, load=load, labels=labels, groups=groups, events=(*clip.events, *partner.events))


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
