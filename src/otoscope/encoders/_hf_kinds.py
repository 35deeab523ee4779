"""The kinds of transformers models that the encoder `hf` knows: which class is the audio part, and how it is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

from otoscope.encoders._hf_measured import Measured, not_known
from otoscope.encoders._hf_reader import Equal, Frames, Perception, Reader, Squeezed, Waveform
from otoscope.encoders._hf_source import Source, model_class, needs_remote_code, relevant
from otoscope.encoders._hf_windows import AveragedSpeech, Flamingo, Packed, Patches, Speech, Swin
from otoscope.encoders._random_weights import randomly_initialised


@dataclass(frozen=True)
class Kind:
    """One kind of models.

    Parameters
    ----------
    model : class of the audio part in transformers, as `model_class` accepts it.
    reader : how it is fed and read.
    settings : where config.json of a complete model has the settings of the audio part.
    prefix : prefix of the names of its weights in a complete model, a regular expression.
    part : name of the module of `model` that is the audio part; "" for all of it.
    """

    model: str
    reader: type[Reader]
    settings: tuple[str, ...] = ()
    prefix: str = ""
    part: str = ""


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
    "musicflamingo": Kind("AudioFlamingo3Encoder", Flamingo, _AUDIO, _TOWER),
    "parakeet_ctc": Kind("ParakeetEncoder", Measured, ("encoder_config",), "encoder"),
    "parakeet_encoder": Kind("ParakeetEncoder", Measured),
    "parakeet_tdt": Kind("ParakeetEncoder", Measured, ("encoder_config",), "encoder"),
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
    "whisper": Kind("WhisperModel", Speech, part="encoder"),
}
"""The kinds that are known, by `model_type` in config.json."""

UNTRAINED = {
    "apply_spec_augment": False,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "add_adapter": False,
}
"""Settings that are disabled: masking and skipped layers, because fine-tuning has its own augmentation, and the adapter
after the last block, behind which the output of the encoder, after its final norm, could not be read."""


def build(source: Source, random: bool, seed: int) -> tuple[Any, dict[str, Any], type[Reader]]:
    """Build the audio part of a checkpoint.

    Parameters
    ----------
    source : the checkpoint.
    random : whether its weights are random.
    seed : seed of random weights.

    Returns
    -------
    The model, its settings in config.json, and its reader.
    """
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
    if random:
        body = randomly_initialised(lambda: model(config), seed).get_submodule(kind.part).eval()
    else:
        body = source.pretrained(model, config, kind.prefix, part=kind.part)
    return body, relevant(settings), kind.reader


def _known(model: Any) -> set[str]:
    """The names of the settings of a model."""
    return set(model.config_class().to_dict())


def _unknown(source: Source, random: bool, seed: int) -> tuple[Any, dict[str, Any]]:
    """A model of a kind that is not in `KINDS`, or its encoder where it has a decoder as well; and its settings."""
    from transformers import AutoConfig, AutoModel

    settings = source.settings()
    try:
        config = AutoConfig.from_pretrained(source.path, **source.arguments)
        if random:
            build = partial(AutoModel.from_config, config, trust_remote_code=source.remote_code)
            body = randomly_initialised(build, seed).eval()
        else:
            body = source.pretrained(AutoModel, config)
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise source.refused(needs_remote_code(source.path)) from error
        if str(error).startswith("Unrecognized configuration class"):  # followed by the names of all others
            raise source.refused(not_known(settings.get("model_type"), "AutoModel does not build them")) from error
        raise
    return (body.get_encoder() if getattr(config, "is_encoder_decoder", False) else body), relevant(settings)


def plain(value: Any) -> Any:
    """Return settings as plain values, without arrays that are computed from others.

    Examples
    --------
    >>> plain({"sampling_rate": 16000, "mel_filters": [[0.0]], "padding": ("left", None)})
    {'sampling_rate': 16000, 'padding': ['left', None]}
    """
    computed = ("mel_filters", "mel_filters_slaney", "window", "processor_class", "auto_map", "_commit_hash")
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items() if key not in computed}
    return (
        [plain(item) for item in value]
        if isinstance(value, list | tuple)
        else json.loads(json.dumps(value, default=str))
    )
