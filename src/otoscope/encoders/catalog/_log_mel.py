"""The front end of PaSST and fPaSST: pre-emphasis and the logarithm of Kaldi's mel filters of a centred spectrogram."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from otoscope.audio.mel import mel_spectrogram


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Options of the front end.

    Parameters
    ----------
    rate, n_fft, win_length, hop, periodic, high : as in `otoscope.audio.mel.mel_spectrogram`.
    added : number that is added to the power.
    smallest : lower limit of that sum, of which the logarithm is taken.
    """

    rate: int
    n_fft: int
    win_length: int
    hop: int
    periodic: bool
    high: float
    added: float = 0.0
    smallest: float = 0.0

    @property
    def name(self) -> str:
        """A text that identifies the front end."""
        kind = "periodic" if self.periodic else "symmetric"
        window = f"fft{self.n_fft}-{kind}{self.win_length}-hop{self.hop}-0-{self.high:g}Hz"
        return f"preemphasis0.97-kaldi-{window}-log+{self.added:g}>{self.smallest:g}"

    def emphasise(self, waves: Tensor) -> Tensor:
        """Compute x[n + 1] - 0.97 x[n] of samples [B, S], float [B, S - 1]."""
        return waves[:, 1:] - 0.97 * waves[:, :-1]

    def apply(self, waves: Tensor, bins: int, *, center: bool) -> Tensor:
        """Compute the features of emphasised samples.

        Parameters
        ----------
        waves : float [B, S].
        bins : number of mel bins.
        center : whether the samples are padded by reflection at both ends.

        Returns
        -------
        float [B, frames, bins].
        """
        power = mel_spectrogram(
            waves,
            rate=self.rate,
            n_fft=self.n_fft,
            win_length=self.win_length,
            periodic=self.periodic,
            hop=self.hop,
            bins=bins,
            high=self.high,
            mel_scale="kaldi",
            center=center,
        )
        return ((power + self.added).clamp(min=self.smallest).log() + 4.5) / 5
