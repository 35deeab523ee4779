"""The encoder `hf`: the audio part of a checkpoint of transformers, with all of its hidden states as layers.

It needs `pip install "otoscope[hf]"`. docs/encoders.md lists the kinds of models.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otoscope.encoders._hf_reader import Equal, Frames, Measured, Perception, Reader, Squeezed, Waveform
from otoscope.encoders._hf_source import Source, model_class, needs_remote_code, randomly_initialised, relevant
from otoscope.encoders._hf_windows import AveragedSpeech, Flamingo, Packed, Patches, Speech, Swin
from otoscope.encoders._lengths import Maps, by_length, pooled, valid_part
from otoscope.encoders.base import Encoder, Features, register
from otoscope.identity import digest_of
from otoscope.types import AudioBatch, Tokens, TokenShape, Wave


@dataclass(frozen=True)
class Kind:
    """One kind of models.

    Parameters
    ----------
    model : class of the audio part in transformers, as `model_class` accepts it.
    reader : how it is fed and read.
    settings : where config.json of a complete model has the settings of the audio part.
    prefix : prefix of the names of its weights in a complete model, a regular expression.
    """

    model: str
    reader: type[Reader]
    settings: tuple[str, ...] = ()
    prefix: str = ""


_AUDIO, _TOWER = ("audio_config",), "audio_tower"
_AUT = "models.qwen3_omni_moe.modeling_qwen3_omni_moe:Qwen3OmniMoeAudioEncoder"
KINDS = {
    "audio-spectrogram-transformer": Kind("ASTModel", Patches),
    "audioflamingo3": Kind("AudioFlamingo3Encoder", Flamingo, _AUDIO, _TOWER),
    "audioflamingo3_encoder": Kind("AudioFlamingo3Encoder", Flamingo),
    "clap": Kind("ClapAudioModel", Swin, _AUDIO, "audio_model"),
    "clap_audio_model": Kind("ClapAudioModel", Swin),
    "data2vec-audio": Kind("Data2VecAudioModel", Equal),
    "hubert": Kind("HubertModel", Waveform),
    "pe_audio": Kind("PeAudioEncoder", Perception, _AUDIO, "audio_encoder"),
    "pe_audio_encoder": Kind("PeAudioEncoder", Perception),
    "qwen2_audio": Kind("Qwen2AudioEncoder", AveragedSpeech, _AUDIO, _TOWER),
    "qwen2_audio_encoder": Kind("Qwen2AudioEncoder", AveragedSpeech),
    "qwen3_omni_moe": Kind(_AUT, Packed, ("thinker_config", "audio_config"), _TOWER),
    "qwen3_omni_moe_audio_encoder": Kind(_AUT, Packed),
    "sew": Kind("SEWModel", Squeezed),
    "unispeech": Kind("UniSpeechModel", Waveform),
    "unispeech-sat": Kind("UniSpeechSatModel", Waveform),
    "voxtral": Kind("VoxtralEncoder", Speech, _AUDIO, _TOWER),
    "voxtral_encoder": Kind("VoxtralEncoder", Speech),
    "wav2vec2": Kind("Wav2Vec2Model", Waveform),
    "wav2vec2-bert": Kind("Wav2Vec2BertModel", Frames),
    "wav2vec2-conformer": Kind("Wav2Vec2ConformerModel", Equal),
    "wavlm": Kind("WavLMModel", Equal),
    "whisper": Kind("models.whisper.modeling_whisper:WhisperEncoder", Speech, (), "encoder"),
}
"""The kinds that are known, by `model_type` in config.json."""

UNTRAINED = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
}
"""Settings of masking and of skipped layers, which are disabled: fine-tuning has its own augmentation."""


@register("hf")
class HuggingFace(Encoder):
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
    window : length of a window in seconds; None for the window of the model, or, where it has none, for clips that keep
        their length. A shorter window truncates the table of positions.
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
    provenance = ("path", "revision", "trust_remote_code")

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
        if weights not in ("pretrained", "random"):
            raise source.refused(f"weights={weights!r}; allowed: 'pretrained', 'random'")
        if pool < 1:
            raise source.refused(f"pool={pool}; it must be at least 1 time step")
        self.control, self.include_embedding, self.pool = weights == "random", include_embedding, pool
        self.body, self.settings, reader = _build(source, self.control, seed)
        extractor = source.extractor()
        try:
            self.reader = reader(self.body, extractor, window)
        except ValueError as error:
            raise source.refused(str(error)) from error
        self.sample_rate = self.reader.rate
        self.shape = self._shape()
        length = "none" if self.reader.window is None else f"{self.reader.window / self.sample_rate:g}s"
        settings = digest_of(_plain(extractor.to_dict()))[:12]
        self.front_end_id = f"hf-{type(extractor).__name__}-{settings}-window{length}"

    def _shape(self) -> TokenShape:
        reader = self.reader
        layers = reader.depth(self.body) + self.include_embedding
        rate = reader.frame_rate / self.pool
        return TokenShape(layers, reader.freq, reader.width(self.body), reader.has_cls, rate)

    @property
    def digest(self) -> str:
        """The sha256 of all weights and buffers and of the settings in config.json that can change tokens."""
        content = json.dumps(_plain(self.settings), sort_keys=True)
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
        if not bool((self._steps(lengths) > 0).all()):
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
        hop = round(self._window_steps() * self.sample_rate / reader.frame_rate)
        starts = range(0, max(1, len(wave) - reader.window + hop), hop)
        windows = [wave[start : start + reader.window] for start in starts]
        maps = [self._features(window) for window in windows]
        valid = (len(maps) - 1) * reader.length + reader.frames(len(windows[-1]), maps[-1])
        return np.concatenate([np.pad(m, ((0, reader.length - len(m)), (0, 0))) for m in maps]), valid

    def _features(self, wave: Wave) -> np.ndarray[Any, Any]:
        """The features of one window."""
        try:
            features = self.reader.features(wave)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ValueError(f"encoder 'hf': the feature extractor refuses a clip: {error}") from error
        if not np.isfinite(features).all():
            raise ValueError(f"encoder 'hf': a clip of {len(wave)} samples has features that are not finite")
        return features

    def _window_steps(self) -> int:
        """The number of time steps of a window."""
        return int(self.reader.steps(self.body, torch.tensor([self.reader.length])))

    def _steps(self, frames: Tensor) -> Tensor:
        """The number of time steps of clips, int64 [B]."""
        if self.reader.window is None:
            return self.reader.steps(self.body, frames)
        before = (frames - 1) // self.reader.length
        return before * self._window_steps() + self.reader.steps(self.body, frames - before * self.reader.length)

    def embed(self, features: Features) -> Tokens:
        """Compute the hidden states as a token map.

        Parameters
        ----------
        features : the output of `front_end`.

        Returns
        -------
        Tokens with x [B, L, T, F, D].
        """
        x, lengths = features.x, features.lengths
        if self.reader.window is not None:
            tokens = self._joined(x, lengths)
        elif self.reader.masked:
            maps, cls = self._maps(x, lengths)
            tokens = valid_part(maps, self._steps(lengths), cls)
        else:
            tokens = by_length(x, lengths, self._equal_maps)
        return pooled(tokens, self.pool)

    def _joined(self, x: Tensor, lengths: Tensor) -> Tokens:
        """The tokens of all windows, one window after the other."""
        length = self.reader.length
        windows = x.unflatten(1, (-1, length))  # type: ignore[no-untyped-call]
        B, count = windows.shape[:2]
        starts = torch.arange(count, device=x.device) * length
        frames = (lengths[:, None] - starts).clamp(1, length)
        maps, cls = self._maps(windows.flatten(0, 1), frames.flatten())
        maps = maps[:, :, : self._window_steps()]
        joined = maps.view(B, count, *maps.shape[1:]).transpose(1, 2).flatten(2, 3)
        if cls is not None:
            present = (starts < lengths[:, None]).to(cls)[:, :, None, None]
            cls = (cls.view(B, count, *cls.shape[1:]) * present).sum(1) / present.sum(1)
        return valid_part(joined, self._steps(lengths), cls)

    def _equal_maps(self, x: Tensor) -> Maps:
        """The maps of clips of one length."""
        return self._maps(x, torch.full((len(x),), x.shape[1], device=x.device))

    def _maps(self, x: Tensor, lengths: Tensor) -> Maps:
        states, cls = self.reader.states(self.body, x, lengths)
        first = 0 if self.include_embedding else 1
        return torch.stack(states[first:], 1), None if cls is None else torch.stack(cls[first:], 1)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters: everything before the blocks, then each block; the final norm is in the last group."""
        return self.reader.groups(self.body)


def _build(source: Source, random: bool, seed: int) -> tuple[Any, dict[str, Any], type[Reader]]:
    """The audio part, its settings in config.json, and its reader."""
    settings = source.settings()
    kind = KINDS.get(settings.get("model_type", ""))
    if kind is None:
        return *_unknown(source, random, seed), Measured
    for name in kind.settings:
        settings = settings.get(name) or {}
    try:
        model = model_class(kind.model)
    except (AttributeError, ImportError) as error:
        raise source.refused(f"{kind.model} is not in the installed transformers; upgrade transformers") from error
    config = model.config_class.from_dict(settings | {k: v for k, v in UNTRAINED.items() if k in _known(model)})
    body = randomly_initialised(model, config, seed) if random else source.pretrained(model, config, kind.prefix)
    return body, relevant(settings), kind.reader


def _known(model: Any) -> set[str]:
    """The names of the settings of a model."""
    return set(model.config_class().to_dict())


def _unknown(source: Source, random: bool, seed: int) -> tuple[Any, dict[str, Any]]:
    """A model of a kind that is not in `KINDS`, and its settings."""
    from transformers import AutoConfig, AutoModel

    try:
        config = AutoConfig.from_pretrained(source.path, **source.arguments)
        if random:
            build = partial(AutoModel.from_config, trust_remote_code=source.remote_code)
            return randomly_initialised(build, config, seed).eval(), relevant(source.settings())
        return source.pretrained(AutoModel, config), relevant(source.settings())
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise source.refused(needs_remote_code(source.path)) from error


def _plain(value: Any) -> Any:
    """Settings as plain values, without arrays that are computed from others."""
    computed = ("mel_filters", "mel_filters_slaney", "window", "processor_class", "auto_map", "_commit_hash")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if key not in computed}
    return (
        [_plain(item) for item in value]
        if isinstance(value, list | tuple)
        else json.loads(json.dumps(value, default=str))
    )
