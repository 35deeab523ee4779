"""The front end of Dasheng, CED and ATST-Frame: mel spectrograms in decibels, each computed from its clip alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from otoscope.audio.mel import decibels, mel_spectrogram
from otoscope.encoders._features import Features
from otoscope.encoders._lengths import whole_windows
from otoscope.encoders.catalog._clip_ends import reflect_ends
from otoscope.encoders.catalog._frames import FramePorted
from otoscope.types import AudioBatch

HOP = 160
"""Samples between two frames, 10 ms at 16 kHz."""


class DecibelPorted(FramePorted):
    """The base class of models whose features are a mel spectrogram in decibels of the whole clip.

    As `torchaudio` computes it for each clip alone, a clip is padded by reflection at its own ends, and its largest
    value limits the range of its values. Frames that do not fill a patch are left out. The spectrogram, and not the
    audio, is cut into windows, so that frames beside a cut see the audio on both sides of it.

    Attributes
    ----------
    n_fft : length of the Fourier transform and of its window in samples.
    low, high : lower edge of the first mel filter and upper edge of the last one in Hz.
    top_db : largest difference in dB from the maximum of a clip.
    """

    sample_rate = 16000
    n_fft: ClassVar[int]
    low: ClassVar[float]
    high: ClassVar[float]
    top_db: ClassVar[float]

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        edges = f"{self.low:g}-{self.high:g}Hz"
        return f"mel{self.config.bins}-htk-fft{self.n_fft}-hop{HOP}-{edges}-db{self.top_db:g}-reflected"

    def front_end(self, batch: AudioBatch) -> Features:
        """Compute the features of whole clips, padded to a whole number of windows.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Features [B, windows * frames, bins]; windows follow one another on the axis of frames.
        """
        with torch.no_grad():
            return Features(*self.features(whole_windows(batch, self.window_samples), batch.lengths))

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of clips.

        Parameters
        ----------
        waves : float [B, S]. Audio, zero after the end of a clip. S is a multiple of `window_samples`.
        lengths : int64 [B]. Number of samples of each clip, at least 1.

        Returns
        -------
        x : float [B, S // HOP, bins].
        frames : int64 [B]. Number of frames of each clip that fill patches, at least one patch.
        """
        padded = reflect_ends(waves, lengths, self.n_fft // 2)
        power = mel_spectrogram(
            padded,
            rate=self.sample_rate,
            n_fft=self.n_fft,
            hop=HOP,
            bins=self.config.bins,
            low=self.low,
            high=self.high,
            center=False,
        )
        frames = lengths // HOP + 1
        mask = torch.arange(power.shape[1], device=waves.device) < frames[:, None]
        x = decibels(power, top_db=self.top_db, mask=mask)[:, : waves.shape[1] // HOP]
        return x, (frames - frames % self.frames_per_step).clamp(min=self.frames_per_step)
