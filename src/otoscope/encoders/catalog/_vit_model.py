"""The base classes of models with a vision transformer: names of tensors and front ends that several of them share."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.audio.fbank import fbank, frame_count
from otoscope.audio.mel import mel_spectrogram
from otoscope.encoders._vit import Vit, VitConfig
from otoscope.encoders.catalog._ported import Ported
from otoscope.types import TokenShape

_RENAMED = {
    "attn.qkv": "qkv",
    "attn.proj": "out",
    "attn.gate": "gate",
    "mlp.fc1": "up",
    "mlp.fc2": "down",
}


class VitModel(Ported):
    """The base class of models with a vision transformer.

    Attributes
    ----------
    config : sizes and switches of the transformer.
    hop : samples between the starts of two frames of the spectrogram.
    """

    config: ClassVar[VitConfig] = VitConfig()
    hop: ClassVar[int] = 160
    sample_rate = 16000
    longest = 10.24
    step = 0.16
    frames_per_step = 16
    body: Vit

    def build(self) -> Vit:
        """Create the transformer with random weights."""
        return Vit(self.config)

    def token_shape(self) -> TokenShape:
        """Return the shape of the tokens, which the config decides."""
        c = self.config
        return TokenShape(c.depth, c.bands, c.dim, True, self.sample_rate / (self.frames_per_step * self.hop))

    def fitted(self, x: Tensor, frames: Tensor, value: float = 0.0) -> Tensor:
        """Cut or pad features to the length of a window, and set frames without audio to a value.

        Parameters
        ----------
        x : float [B, frames, bins]. Features.
        frames : int64 [B]. Number of frames to keep.
        value : value of the others.

        Returns
        -------
        float [B, window_frames, bins].
        """
        x = functional.pad(x, (0, 0, 0, max(0, self.window_frames - x.shape[1])))[:, : self.window_frames]
        outside = torch.arange(x.shape[1], device=x.device) >= frames[:, None]
        return x.masked_fill(outside[..., None], value)


class KaldiVit(VitModel):
    """The base class of models on Kaldi's log-mel energies with 128 bins and Hann windows, as AST has introduced them.

    Frames after the end of a clip are zero, and all are standardised by (x - mean) / (2 std). The authors remove the
    mean of the waveform first, which has no effect, because Kaldi removes that of every frame.

    Attributes
    ----------
    mean, std : statistics of the features of the corpus of the pretraining.
    """

    mean: ClassVar[float]
    std: ClassVar[float]

    def front_end_name(self) -> str:
        """Return a text that identifies the front end."""
        return f"kaldi-fbank{self.config.bins}-hanning-25/10ms-{self.sample_rate}Hz-({self.mean},{self.std})"

    def features(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the log-mel energies of windows, as `Ported.features` describes."""
        x = fbank(waves, bins=self.config.bins, rate=self.sample_rate)
        frames = frame_count(lengths, rate=self.sample_rate).clamp(max=self.window_frames)
        return (self.fitted(x, frames) - self.mean) / (2 * self.std), frames


class CenteredVit(VitModel):
    """The base class of models on mel spectrograms whose frames are centred, and reflected at the ends of a clip."""

    n_fft: ClassVar[int]

    @abstractmethod
    def spectrogram(self, waves: Tensor) -> Tensor:
        """Compute the mel spectrogram [B, frames, bins] of waves [B, S] with centred frames."""

    def centred(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mel spectrogram of windows, each reflected at the end of its audio.

        Parameters
        ----------
        waves, lengths : as in `Ported.features`.

        Returns
        -------
        x : float [B, window_frames, bins]. Features, zero after the end of the audio.
        frames : int64 [B]. Number of frames with audio.
        """
        frames = (lengths // self.hop + 1).clamp(max=self.window_frames)
        return self.fitted(self.spectrogram(reflected(waves, lengths, self.n_fft // 2)), frames), frames


def reflected(waves: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """Continue waves after the end of their audio by their reflection.

    Parameters
    ----------
    waves : float [B, S]. Audio, zero after the end of a clip.
    lengths : int64 [B]. Number of samples with audio.
    samples : number of samples that are reflected.

    Returns
    -------
    float [B, S + samples].

    Examples
    --------
    >>> reflected(torch.tensor([[1.0, 2.0, 3.0, 0.0]]), torch.tensor([3]), 2)
    tensor([[1., 2., 3., 2., 1., 0.]])
    """
    B, S = waves.shape
    index = torch.arange(S + samples, device=waves.device).expand(B, -1)
    end = lengths[:, None]
    mirrored = torch.where(index < end, index, 2 * (end - 1) - index).clamp(min=0)
    return waves.gather(1, mirrored).masked_fill(index >= end + samples, 0)


def slaney_log_mel(waves: Tensor, bins: int, *, center: bool) -> Tensor:
    """Compute the log-mel spectrogram of M2D and MATPAC: frames of 25 ms every 10 ms, Slaney's filters from 50 Hz on.

    Parameters
    ----------
    waves : float [B, S]. Audio at 16 kHz.
    bins : number of mel bins.
    center : whether the frames are centred, with the audio reflected at both ends.

    Returns
    -------
    float [B, frames, bins].
    """
    power = mel_spectrogram(
        waves, rate=16000, n_fft=400, hop=160, bins=bins, low=50, mel_scale="slaney", norm="slaney", center=center
    )
    return (power + torch.finfo(torch.float32).eps).log()


def body_tensors(
    tensors: Mapping[str, Tensor],
    config: VitConfig,
    *,
    order: Literal["time", "frequency"] = "time",
    special: tuple[str, ...] = ("cls_token",),
    special_positions: bool = True,
) -> dict[str, Tensor]:
    """Convert the tensors of a vision transformer with the names of timm to those of `Vit`.

    Parameters
    ----------
    tensors : tensors by name: "patch_embed.proj", "pos_embed", "pre_norm", "blocks.0.attn.qkv" and so on.
    config : the config of the body.
    order : whether the image is [time, frequency] or [frequency, time], so that its rows are time steps or bands.
    special : names of the special tokens.
    special_positions : whether the table of positions begins with those of the special tokens. Without them, the table
        may be that of longer audio, the first part of which is taken.

    Returns
    -------
    Tensors by name in the body. Other names, and tensors that do not have the expected shape, are unchanged.
    """
    body = {_body_name(name): value for name, value in tensors.items()}
    if order == "frequency" and body.get("patch.weight", torch.empty(0)).ndim == 4:
        body["patch.weight"] = body["patch.weight"].transpose(2, 3)
    table, count = body.get("pos_embed"), config.special if special_positions else 0
    size = config.steps * config.bands
    rows = table.shape[1] if table is not None and table.ndim == 3 else 0
    if table is not None and (rows == count + size or (not special_positions and rows > size)):
        grid = (config.steps, config.bands) if order == "time" else (config.bands, config.steps)
        positions = body.pop("pos_embed")[0, count : count + size].reshape(*grid, -1)
        body["positions"] = positions if order == "time" else positions.transpose(0, 1)
        if all(name in body for name in special):
            tokens = torch.cat([body.pop(name)[0] for name in special])
            body["special"] = tokens + table[0, :count] if special_positions else tokens
    return body


def _body_name(name: str) -> str:
    for old, new in (("patch_embed.proj.", "patch."), ("pre_norm.", "entry.")):
        if name.startswith(old):
            return new + name.removeprefix(old)
    match = re.fullmatch(r"(blocks\.\d+)\.(attn\.\w+|mlp\.\w+)\.(weight|bias)", name)
    if match and match[2] in _RENAMED:
        return f"{match[1]}.{_RENAMED[match[2]]}.{match[3]}"
    return name
