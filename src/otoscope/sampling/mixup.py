"""Mixup views of a few-shot draw: waveforms are mixed before the encoder hears them, so that a bank can hold them.

The cached few-shot protocol ("Unmute the Patch Tokens", ICLR 2026) has 64 clips a class and five views of each, mixed
beforehand with p = 0.9. It does not say how they are mixed; here they are as in its group's BirdSet (arXiv 2403.10380).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from otoscope.audio.waveform import waveform
from otoscope.bank import Bank
from otoscope.results import Views
from otoscope.types import Clip, Task, Wave

P, SNR_DB = 0.9, (0.0, 5.0)
"""The share of views that are mixed, and how many dB the partner of a clip lies below it, at least and at most."""
RULE = {"p": P, "snr_db": SNR_DB}
"""What decides views beside their number and the draw, for a record."""


def mixed(clips: Sequence[Clip], task: Task, *, views: int, draw: int = 0, p: float = P) -> list[Clip]:
    """The clips, then `views` views of each: with probability `p` it is mixed with another of them, else it is itself.

    A partner is added at an RMS of 0 to 5 dB (uniform) below the clip's, both from their beginning; the view is as
    long as the longer one, so that no event is cut off. It has the labels and events of both. So far the defaults of
    BirdSet's `MultilabelMix`. Where a clip carries exactly one label, the view has the clip's own: it is the louder
    one *(our choice)*. The clips themselves stay beside their views *(our choice)*.

    What is random hangs on `draw`, the clip's id and the view's number; the partner also on how many clips there are. A
    single clip has no partner. Nothing is decoded before a view's audio is read.
    """
    made = list(clips)
    for view in range(views):
        for row, clip in enumerate(clips):
            name = int.from_bytes(hashlib.sha256(clip.id.encode()).digest()[:8], "big")
            rng = np.random.default_rng([draw, view, name])
            alone, snr = rng.random() >= p or len(clips) == 1, float(rng.uniform(*SNR_DB))
            other = int(rng.integers(max(1, len(clips) - 1)))
            view_of = replace(clip, id=f"{clip.id}~{view}")
            made.append(view_of if alone else _with_partner(view_of, clips[other + (other >= row)], snr, task))
    return made


def view_settings(number: int) -> Views:
    """The rule of `number` views of each clip, as a record keeps it."""
    return Views(number=number, p=P, snr_db=SNR_DB)


def with_mixup_views(bank: Bank, views: Bank, *, shots: int, draw: int, number: int) -> Bank:
    """The bank with the train split of `views`, that of a `shown.MixupSet`; `ValueError` for one of another encoder.

    `shots`, `draw`, `number` of views of each clip: those that `views` was made with, for the protocol of a record.
    """
    asked, found = (
        (it.identity.encoder_digest, it.identity.layers, it.identity.dtype, it.identity.content) for it in (bank, views)
    )
    if asked != found:
        raise ValueError(f"{views.path} holds views by {found}, {bank.path} clips by {asked}: extract the views anew")
    sampling = replace(bank.sampling, shots=shots, draw=draw, views=view_settings(number))
    return bank.with_splits({"train": views.split("train")}, sampling)


@dataclass(frozen=True)
class _Mix:
    """Reads a clip with its partner `snr` dB below it."""

    clip: Clip
    partner: Clip
    snr: float

    def __call__(self) -> Wave:
        wave, other = waveform(self.clip, self.clip.rate), waveform(self.partner, self.clip.rate)
        loud, level = _rms(wave), _rms(other)
        gain = loud / level * 10 ** (-self.snr / 20) if loud and level else 1.0
        mix = np.zeros(max(len(wave), len(other)), np.float32)
        mix[: len(wave)] += wave
        mix[: len(other)] += np.float32(gain) * other
        return mix


def _with_partner(clip: Clip, partner: Clip, snr: float, task: Task) -> Clip:
    load = _Mix(clip, partner, snr)
    if task.kind == "multi-class":
        return replace(clip, load=load)
    labels = tuple(dict.fromkeys((*clip.labels, *partner.labels)))
    return replace(clip, load=load, labels=labels, events=(*clip.events, *partner.events))


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
