"""The encoder `hf`: the audio part of a checkpoint of transformers, with all of its hidden states as layers.

It needs `pip install "otoscope[hf]"`. docs/encoders.md lists the kinds of models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otoscope.encoders._features import Features
from otoscope.encoders._hf_kinds import build, plain
from otoscope.encoders._hf_source import Source, check_folder
from otoscope.encoders._layered import LayeredEncoder
from otoscope.encoders._lengths import Maps, by_length, joined, joined_steps, pooled, valid_part, window_starts
from otoscope.encoders._long_clips import in_windows, window_text
from otoscope.encoders._names import REMOTE_CODE
from otoscope.encoders._random_weights import is_random
from otoscope.encoders.base import register
from otoscope.identity import digest_of
from otoscope.types import AudioBatch, Tokens, TokenShape, Wave

_TOGETHER_SECONDS = 320
"""Duration of the windows that a model computes at once, in seconds; at least one window is computed."""


@register("hf")
class HuggingFace(LayeredEncoder):
    """The audio part of a checkpoint that transformers can load; every block is a layer.

    The feature extractor of the checkpoint is the front end. Clips are cut into windows of the model, the last of which
    is padded, and their tokens are joined on one time axis; the cls token is the mean over windows. A model without a
    window is given a mask, or, where it does not honour one, clips of equal length only. The tokens of a clip therefore
    do not depend on the other clips of a batch. The last layer is the output after the final norm.

    Parameters
    ----------
    path : a folder written by `save_pretrained`, or the name of a repository on the Hugging Face hub. Of a complete
        model, such as CLAP or Qwen2-Audio, only the audio part is used.
    revision : the 40 hexadecimal digits of a commit, which pins a repository on the hub; None for a folder.
    weights : "pretrained", or "random" for the same architecture without training, as a control.
    seed : seed of the random weights.
    window : length of a window in seconds; None for the window of the model, where a shorter one truncates the table of
        positions. A model without a window computes clips of up to 60 s as a whole and cuts longer ones into windows
        of 60 s; see docs/encoders.md for what another length does.
    include_embedding : whether the input of the first block is another layer, in front of the others.
    pool : number of neighbouring time steps that are averaged into one; 1 for none.
    trust_remote_code : whether Python code in the checkpoint may be executed. Only models that transformers does not
        contain need it.

    Raises
    ------
    ImportError : when transformers is not installed.
    ValueError : when an option or the checkpoint is not valid.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import Wav2Vec2FeatureExtractor, WavLMConfig
    >>> folder = tempfile.mkdtemp()
    >>> sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    >>> WavLMConfig(**sizes).save_pretrained(folder)
    >>> _ = Wav2Vec2FeatureExtractor().save_pretrained(folder)
    >>> HuggingFace(path=folder, weights="random").shape
    TokenShape(layers=2, freq=1, dim=16, has_cls=False, frame_rate=50.0)
    """

    revision = 1
    provenance = ("path", "revision", REMOTE_CODE)
    written = "path@revision"
    padding_neutral = True

    def __init__(
        self,
        *,
        path: str,
        revision: str | None = None,
        weights: str = "pretrained",
        seed: int = 0,
        window: float | None = None,
        include_embedding: bool = False,
        pool: int = 1,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        source = Source("hf", path, revision, trust_remote_code)
        self.control, self.include_embedding, self.pool = is_random("hf", weights), include_embedding, pool
        if pool < 1:
            raise source.refused(f"pool={pool}; it must be at least 1 time step")
        self.body, self.settings, reader = build(source, self.control, seed)
        extractor = source.extractor()
        try:
            self.reader = reader(self.body, extractor, window)
            self.cut = self.reader.cut()
        except ValueError as error:
            raise source.refused(str(error)) from error
        self.sample_rate = self.reader.rate
        self.shape = self._shape()
        length = "none-" + window_text(self.reader.longest)
        if self.reader.window is not None:
            length = f"{self.reader.window / self.sample_rate:g}s"
        settings = digest_of(plain(extractor.to_dict()))[:12]
        self.front_end_id = f"hf-{type(extractor).__name__}-{settings}-window{length}{self.reader.variant}"

    def _shape(self) -> TokenShape:
        reader = self.reader
        layers = reader.depth(self.body) + self.include_embedding
        rate = reader.frame_rate / self.pool
        return TokenShape(layers, reader.freq, reader.width(self.body), reader.has_cls, rate)

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that a folder exists, unless a repository is pinned; see `Encoder.check_weights`."""
        check_folder(cls.name, options)

    @property
    def digest(self) -> str:
        """The sha256 of all weights and buffers and of the settings in config.json that can change tokens."""
        content = json.dumps(plain(self.settings), sort_keys=True)
        return hashlib.sha256(f"{super().digest} {content}".encode()).hexdigest()

    def front_end(self, batch: AudioBatch) -> Features:
        """Apply the feature extractor of the checkpoint to each clip by itself.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Features [B, frames, bins]: log-mel frames, or samples with one bin for models that read the waveform.

        Raises
        ------
        ValueError : when a clip is too short for one token.
        """
        pairs = zip(batch.waves.cpu().float().numpy(), batch.lengths.tolist(), strict=True)
        clips = [self._clip(wave[:length]) for wave, length in pairs]
        lengths = torch.tensor([frames for _, frames in clips])
        length = self.reader.length
        steps = joined_steps(lengths, length, self._count_steps) if length else self._count_steps(lengths)
        if not bool((steps > 0).all()):
            shortest = int(batch.lengths.min())
            raise ValueError(f"encoder 'hf': a clip of {shortest} samples is too short for one token; use longer clips")
        x = nn.utils.rnn.pad_sequence([torch.from_numpy(np.ascontiguousarray(features)) for features, _ in clips], True)
        return Features(x.to(batch.waves.device, batch.waves.dtype), lengths.to(batch.waves.device))

    def _clip(self, wave: Wave) -> tuple[np.ndarray[Any, Any], int]:
        """The features of one clip, window after window, and its number of valid frames."""
        reader = self.reader
        if reader.window is None:
            features = self._features(wave)
            return features, reader.frames(len(wave), features)
        windows = [wave[start : start + reader.window] for start in self._starts(len(wave), reader.window)]
        maps = [self._features(window) for window in windows]
        valid = (len(maps) - 1) * reader.length + reader.frames(len(windows[-1]), maps[-1])
        return np.concatenate([np.pad(m, ((0, reader.length - len(m)), (0, 0))) for m in maps]), valid

    def _starts(self, samples: int, window: int) -> range:
        """The starts of the windows of a clip. Their hop is the duration of the tokens of a window."""
        steps = int(self._count_steps(torch.tensor([self.reader.length])))
        return window_starts(samples, window, round(steps * self.sample_rate / self.reader.frame_rate))

    def padded_length(self, samples: int) -> int:
        """Return the length of the windows of a clip, or its own where there are none.

        Parameters
        ----------
        samples : length of a clip in samples.
        """
        window = self.reader.window
        return samples if window is None else window * len(self._starts(samples, window))

    def _features(self, wave: Wave) -> np.ndarray[Any, Any]:
        """The features of one window."""
        try:
            features = self.reader.features(wave)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(f"encoder 'hf': the feature extractor refuses a clip: {error}") from error
        if not np.isfinite(features).all():
            raise ValueError(f"encoder 'hf': a clip of {len(wave)} samples has features that are not finite")
        return features

    def _count_steps(self, frames: Tensor) -> Tensor:
        return self.reader.steps(self.body, frames)

    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Compute some hidden states, as `embed` does for all, for a limited duration at once.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of layers, in the order of the result.
        """
        x, lengths, reader = features.x, features.lengths, self.reader
        compute, cut = partial(self._maps, layers=layers), self.cut
        if cut is None:
            together = max(1, int(_TOGETHER_SECONDS * self.sample_rate / self.padded_length(1)))
            tokens = joined(x, lengths, reader.length, self._count_steps, compute, together)
        elif reader.masked and int(lengths.max()) <= cut.frames:
            maps, cls = compute(x, lengths)
            tokens = valid_part(maps, self._count_steps(lengths), cls)
        else:
            tokens = by_length(x, lengths, lambda x: in_windows(x, cut, partial(_of_one_length, compute)))
        return pooled(tokens, self.pool)

    def _maps(self, x: Tensor, lengths: Tensor, layers: Sequence[int]) -> Maps:
        states, cls = self.reader.states(self.body, x, lengths)
        chosen = [layer + (not self.include_embedding) for layer in layers]
        maps = torch.stack([states[layer] for layer in chosen], 1)
        return maps, None if cls is None else torch.stack([cls[layer] for layer in chosen], 1)

    def compiled_blocks(self) -> Sequence[nn.Module]:
        """List the blocks of the model; see `Encoder.compiled_blocks`."""
        return self.reader.compiled_blocks(self.body)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: everything before the blocks, then each block; the final norm is in the last group."""
        return self.reader.groups(self.body)


def _of_one_length(compute: Callable[[Tensor, Tensor], Maps], x: Tensor) -> Maps:
    """The maps of clips of one length."""
    return compute(x, torch.full((len(x),), x.shape[1], device=x.device))
