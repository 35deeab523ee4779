"""Small checkpoints with random weights for every kind of model of the encoder `hf`, written by `save_pretrained`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers as hf

BLOCKS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
WAVES = BLOCKS | {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
SPEECH = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
SPEECH |= {"num_mel_bins": 40, "max_source_positions": 50}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 64}
Parts = tuple[Any, Any]
"""A model and its feature extractor."""


def _waves(name: str, **settings: Any) -> Parts:
    config = getattr(hf, f"{name}Config")(**(WAVES | settings))
    return getattr(hf, f"{name}Model")(config), hf.Wav2Vec2FeatureExtractor()


def _ctc() -> Parts:
    config = hf.Wav2Vec2Config(**WAVES, do_stable_layer_norm=True, feat_extract_norm="layer", vocab_size=8)
    return hf.Wav2Vec2ForCTC(config), hf.Wav2Vec2FeatureExtractor(do_normalize=False)


def _bert() -> Parts:
    return hf.Wav2Vec2BertModel(hf.Wav2Vec2BertConfig(**BLOCKS)), hf.SeamlessM4TFeatureExtractor()


def _ast() -> Parts:
    config = hf.ASTConfig(**BLOCKS, max_length=128, num_labels=4)
    return hf.ASTForAudioClassification(config), hf.ASTFeatureExtractor(max_length=128)


def _extractor() -> Any:
    return hf.WhisperFeatureExtractor(feature_size=40, chunk_length=1)


def _whisper() -> Parts:
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_target_positions": 8}
    config = hf.WhisperConfig(**SPEECH, **decoder, vocab_size=51864)
    return hf.WhisperForConditionalGeneration(config), _extractor()


def _qwen2() -> Parts:
    text = TEXT | {"model_type": "qwen2", "num_key_value_heads": 2}
    audio = SPEECH | {"model_type": "qwen2_audio_encoder"}
    config = hf.Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=3)
    return hf.Qwen2AudioForConditionalGeneration(config), _extractor()


def _voxtral() -> Parts:
    audio = {"model_type": "voxtral_encoder", "num_mel_bins": 40, "max_source_positions": 50, **TEXT}
    text = TEXT | {"model_type": "llama", "num_key_value_heads": 2}
    config = hf.VoxtralConfig(audio_config=audio, text_config=text)
    return hf.VoxtralForConditionalGeneration(config), _extractor()


def _flamingo() -> Parts:
    audio = {"model_type": "audioflamingo3_encoder", "num_mel_bins": 40, "max_source_positions": 50, **TEXT}
    text = TEXT | {"model_type": "qwen2", "num_key_value_heads": 2}
    config = hf.AudioFlamingo3Config(audio_config=audio, text_config=text)
    return hf.AudioFlamingo3ForConditionalGeneration(config), _extractor()


def _music() -> Parts:
    audio = {"model_type": "audioflamingo3_encoder", "num_mel_bins": 40, "max_source_positions": 50, **TEXT}
    text = TEXT | {"model_type": "qwen2", "num_key_value_heads": 2}
    config = hf.MusicFlamingoConfig(audio_config=audio, text_config=text)
    return hf.MusicFlamingoForConditionalGeneration(config), _extractor()


def _parakeet(head: str) -> Parts:
    encoder = BLOCKS | {"subsampling_conv_channels": 8, "num_mel_bins": 80}
    config = getattr(hf, f"Parakeet{head}Config")(vocab_size=16, pad_token_id=0, encoder_config=encoder)
    return getattr(hf, f"ParakeetFor{head}")(config), hf.ParakeetFeatureExtractor()


def _moonshine() -> Parts:
    sizes = {
        f"{part}_num_{name}": 2 for part in ("encoder", "decoder") for name in ("hidden_layers", "attention_heads")
    }
    config = hf.MoonshineConfig(hidden_size=32, intermediate_size=48, vocab_size=64, **sizes)
    return hf.MoonshineForConditionalGeneration(config), hf.Wav2Vec2FeatureExtractor(do_normalize=False)


def _realtime() -> Parts:
    config = hf.VoxtralRealtimeEncoderConfig(**BLOCKS, num_mel_bins=40, head_dim=16, num_key_value_heads=2)
    return hf.VoxtralRealtimeEncoder(config), hf.VoxtralRealtimeFeatureExtractor(feature_size=40)


def _codec() -> Parts:
    config = hf.DacConfig(encoder_hidden_size=4, decoder_hidden_size=64, codebook_dim=4, codebook_size=16)
    return hf.DacModel(config), hf.DacFeatureExtractor()


def _glm() -> Parts:
    config = hf.GlmAsrEncoderConfig(**BLOCKS, num_mel_bins=40, max_position_embeddings=50)
    return hf.GlmAsrEncoder(config), _extractor()


def _omni() -> Parts:
    from transformers.models.qwen3_omni_moe import configuration_qwen3_omni_moe, modeling_qwen3_omni_moe

    sizes = SPEECH | {"output_dim": 24, "downsample_hidden_size": 8, "n_window": 50, "n_window_infer": 200}
    config = configuration_qwen3_omni_moe.Qwen3OmniMoeAudioEncoderConfig(**sizes)
    return modeling_qwen3_omni_moe.Qwen3OmniMoeAudioEncoder(config), _extractor()


def _clap(fused: bool) -> Parts:
    audio = {"patch_embeds_hidden_size": 8, "depths": [1, 2, 3], "num_attention_heads": [1, 2, 2], "hidden_size": 32}
    audio |= {"spec_size": 128, "num_mel_bins": 32, "window_size": 8, "projection_dim": 16, "enable_fusion": fused}
    config = hf.ClapConfig(audio_config=audio, text_config=TEXT | {"projection_dim": 16}, projection_dim=16)
    sizes = {"feature_size": 32, "sampling_rate": 16000, "hop_length": 32, "max_length_s": 1, "fft_window_size": 512}
    kind = "fusion" if fused else "rand_trunc"
    return hf.ClapModel(config), hf.ClapFeatureExtractor(**sizes, frequency_max=8000, truncation=kind)


def _perception() -> Parts:
    codec = {"model_type": "dac", "encoder_hidden_size": 4, "downsampling_ratios": [2, 4, 5, 8], "hidden_size": 16}
    audio = BLOCKS | {"num_key_value_heads": 2, "head_dim": 16, "dac_config": codec | {"codebook_dim": 8}}
    ids = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    config = hf.PeAudioConfig(audio_config=audio, text_config=TEXT | {"model_type": "modernbert"} | ids)
    return hf.PeAudioModel(config), hf.PeAudioFeatureExtractor(sampling_rate=8000, hop_length=320)


MODELS: dict[str, Callable[[], Parts]] = {
    "ast": _ast,
    "audioflamingo3": _flamingo,
    "clap": partial(_clap, False),
    "clap-fused": partial(_clap, True),
    "data2vec-audio": partial(_waves, "Data2VecAudio"),
    "hubert": partial(_waves, "Hubert"),
    "musicflamingo": _music,
    "parakeet_ctc": partial(_parakeet, "CTC"),
    "parakeet_tdt": partial(_parakeet, "TDT"),
    "pe_audio": _perception,
    "qwen2_audio": _qwen2,
    "qwen3_omni_moe": _omni,
    "sew": partial(_waves, "SEW", conv_dim=(16,) * 13),
    "unispeech": partial(_waves, "UniSpeech"),
    "unispeech-sat": partial(_waves, "UniSpeechSat", feat_extract_norm="layer", do_stable_layer_norm=True),
    "voxtral": _voxtral,
    "wav2vec2": partial(_waves, "Wav2Vec2"),
    "wav2vec2-adapter": partial(
        _waves, "Wav2Vec2", add_adapter=True, num_adapter_layers=1, do_stable_layer_norm=True, feat_extract_norm="layer"
    ),
    "wav2vec2-bert": _bert,
    "wav2vec2-conformer": partial(_waves, "Wav2Vec2Conformer"),
    "wav2vec2-ctc": _ctc,
    "wavlm": partial(_waves, "WavLM"),
    "whisper": _whisper,
}


OTHERS: dict[str, Callable[[], Parts]] = {"moonshine": _moonshine, "voxtral_realtime": _realtime}
"""Models of kinds that have no reader of their own."""
REFUSED: dict[str, Callable[[], Parts]] = {"dac": _codec, "glmasr": _glm}
"""Models that cannot be used."""


def save(name: str, folder: Path) -> str:
    """Write the checkpoint `name` of `MODELS`, `OTHERS` or `REFUSED` into `folder`, and return the folder."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filter", UserWarning)
        torch.manual_seed(7)
        model, extractor = (MODELS | OTHERS | REFUSED)[name]()
        with torch.no_grad():
            for parameter in model.parameters():  # zeros and ones would hide mistakes
                parameter.add_(0.05 * torch.randn_like(parameter))
        for saved in (model, extractor):
            saved.save_pretrained(folder)
    return str(folder)
