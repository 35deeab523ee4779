"""The encoder `whisper`: the encoder of OpenAI's Whisper (Radford et al., ICML 2023), loaded with transformers.

Whisper was trained on 680,000 hours of speech with transcripts, in windows of 30 s. Its weights are not part of
otoscope; docs/encoders.md describes how to download them. It needs `pip install "otoscope[hf]"`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from otoscope.audio.mel import mel_spectrogram
from otoscope.encoders._features import Features
from otoscope.encoders._hf_source import Source, check_folder
from otoscope.encoders._hf_windows import fix_positions
from otoscope.encoders._lengths import pooled, valid_part, without_padding
from otoscope.encoders._random_weights import is_random, randomly_initialised
from otoscope.encoders.base import Encoder, register
from otoscope.types import AudioBatch, Tokens, TokenShape

RATE, FRAME, HOP = 16000, 400, 160
STRIDE = 2  # frames per token, the stride of the second convolution
FLOOR, RANGE = 1e-10, 8.0  # smallest power; dynamic range in decades


def log_mel(waves: Tensor, bins: int) -> Tensor:
    """Compute Whisper's log-mel features.

    The log10 of the mel power is clamped to at most 8 decades below the loudest bin of the clip, then scaled by
    (x + 4) / 4. The triangular filters are on Slaney's mel scale. Source: openai/whisper, audio.py.

    Parameters
    ----------
    waves : float [B, S]. Waveforms at 16 kHz, S >= 400.
    bins : number of mel bins.

    Returns
    -------
    float [B, S // 160, bins]. One frame every 10 ms, centred on its time; the edges are reflected.

    Examples
    --------
    >>> log_mel(torch.zeros(1, 16000), 80).shape
    torch.Size([1, 100, 80])
    """
    power = mel_spectrogram(
        waves, rate=RATE, n_fft=FRAME, hop=HOP, bins=bins, mel_scale="slaney", norm="slaney", pad_mode="reflect"
    )
    decades = power[:, :-1].clamp(min=FLOOR).log10()
    return (decades.maximum(decades.amax((1, 2), keepdim=True) - RANGE) + 4) / 4


@register("whisper")
class Whisper(Encoder):
    """The encoder of a Whisper checkpoint; every block is a layer, F = 1, no cls token.

    The last layer is the output after the final norm.

    Parameters
    ----------
    path : a folder written by `save_pretrained`, or the name of a repository on the Hugging Face hub. Only safetensors
        are read.
    revision : the 40 hexadecimal digits of a commit, which pins the weights of a repository on the hub; None for a
        folder.
    weights : "pretrained", or "random" for the same architecture (config.json of `path`) without training, as a
        control.
    seed : seed of the random weights.
    window : length of the encoder's input in seconds; None for the length it was trained with (30). Every clip is
        padded with silence to this length, and the silence is not masked. A shorter window truncates the table of
        positions, which is cheaper and changes the tokens a little (docs/encoders.md has figures).
    pool : number of neighbouring tokens that are averaged into one; 1 for none, a token every 20 ms.

    Raises
    ------
    ImportError : when transformers is not installed.
    ValueError : when an option or the checkpoint is not valid.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import WhisperConfig
    >>> folder = tempfile.mkdtemp()
    >>> sizes = dict(d_model=12, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, vocab_size=60000)
    >>> WhisperConfig(decoder_layers=1, **sizes).save_pretrained(folder)
    >>> Whisper(path=folder, weights="random", pool=4).shape
    TokenShape(layers=2, freq=1, dim=12, has_cls=False, frame_rate=12.5)
    """

    revision = 1
    provenance = ("path", "revision")
    written = "path@revision"
    sample_rate = RATE
    padding_neutral = True

    def __init__(
        self,
        *,
        path: str,
        revision: str | None = None,
        weights: str = "pretrained",
        seed: int = 0,
        window: float | None = None,
        pool: int = 1,
    ) -> None:
        super().__init__()
        self.control = is_random("whisper", weights)
        self.body = _body(Source("whisper", path, revision), self.control, seed)
        config = self.body.config
        self.window, self.pool = _check_sizes(window, pool, config.max_source_positions)
        self.bins = int(config.num_mel_bins)
        fix_positions(self.body, self.window // (HOP * STRIDE))
        self.shape = TokenShape(config.encoder_layers, 1, config.d_model, False, RATE / HOP / STRIDE / pool)
        self.front_end_id = f"whisper-logmel{self.bins}-25/10ms-window{self.window / RATE:g}s-pool{pool}"

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that a folder exists, unless a repository is pinned; see `Encoder.check_weights`."""
        check_folder(cls.name, options)

    @property
    def digest(self) -> str:
        """The sha256 of all weights and buffers and of the settings in config.json that change the tokens."""
        config = self.body.config
        content = f"{super().digest} heads={config.encoder_attention_heads} activation={config.activation_function}"
        return hashlib.sha256(content.encode()).hexdigest()

    def front_end(self, batch: AudioBatch) -> Features:
        """Compute log-mel features of the whole window; each clip is followed by silence.

        Parameters
        ----------
        batch : waveforms at 16 kHz.

        Returns
        -------
        Features [B, 100 * window, bins]. `lengths` counts the frames that begin inside the clip.

        Raises
        ------
        ValueError : when a clip is longer than the window.
        """
        longest = int(batch.lengths.max())
        if longest > self.window:
            raise ValueError(
                f"encoder 'whisper' accepts clips up to {self.window / RATE:g} s, found one of {longest / RATE:g} s; "
                "use the encoder hf:FOLDER, which encodes long clips in windows, cut the clips of a data set in files "
                f"with --dataset-option window={self.window / RATE:g}, or set a longer window if the checkpoint has one"
            )
        with torch.no_grad():
            waves = functional.pad(without_padding(batch), (0, self.window - batch.waves.shape[1]))
            return Features(log_mel(waves, self.bins), (batch.lengths + HOP - 1) // HOP)

    def padded_length(self, samples: int) -> int:  # noqa: ARG002
        """Return the length of the window, to which every clip is padded."""
        return self.window

    def embed(self, features: Features) -> Tokens:
        """Compute the tokens of every block.

        Parameters
        ----------
        features : the output of `front_end`.

        Returns
        -------
        Tokens [B, layers, T, 1, D], with T of the longest clip. A token is valid if any of its frames begins inside
        the clip.
        """
        outputs = self.body(features.x.transpose(1, 2), output_hidden_states=True, return_dict=True)
        layers = torch.stack(outputs.hidden_states[1:], 1)
        steps = (features.lengths + STRIDE - 1) // STRIDE
        return pooled(valid_part(layers[:, :, :, None], steps, None), self.pool)

    def compiled_blocks(self) -> Sequence[nn.Module]:
        """List the blocks of the encoder; see `Encoder.compiled_blocks`."""
        return list(self.body.layers)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: the two convolutions, then each block; the final norm is in the last group."""
        groups = [[*self.body.conv1.parameters(), *self.body.conv2.parameters()]]
        groups += [list(layer.parameters()) for layer in self.body.layers]
        groups[-1] += list(self.body.layer_norm.parameters())
        return groups


def _check_sizes(window: float | None, pool: int, positions: int) -> tuple[int, int]:
    """Return the window in samples and pool; raise `ValueError` where they do not fit the checkpoint."""
    token = HOP * STRIDE
    samples = positions * token if window is None else round(window * RATE / token) * token
    if window is not None and not math.isclose(samples, window * RATE):
        raise ValueError(f"encoder 'whisper': window={window} s; it must be a whole number of tokens of 0.02 s")
    if not token < samples <= positions * token:
        raise ValueError(f"encoder 'whisper': window={window} s; allowed: 0.04 to {positions * token / RATE:g} s")
    if pool < 1:
        raise ValueError(f"encoder 'whisper': pool={pool}; it must be at least 1 token")
    return samples, pool


def _body(source: Source, random: bool, seed: int) -> Any:
    """The encoder of the checkpoint, with its weights or with random ones."""
    content = source.settings()
    if content.get("model_type") != "whisper":
        raise source.refused(
            f"{source.path} contains a model of type {content.get('model_type')!r}, expected 'whisper'; the "
            "encoder 'hf' reads other types"
        )
    from transformers import WhisperConfig, WhisperModel

    config = WhisperConfig.from_dict(content)
    if random:
        return randomly_initialised(lambda: WhisperModel(config), seed).encoder
    return source.pretrained(WhisperModel, config, part="encoder", pickles=False)
