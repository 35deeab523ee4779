"""A small Whisper checkpoint with random weights, as `save_pretrained` writes it."""

from __future__ import annotations

from pathlib import Path

import torch

SECOND = 50  # tokens of one second
SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 40,
    "max_source_positions": SECOND,
    "max_target_positions": 8,
    "vocab_size": 51864,  # transformers derives the special tokens from it
}


def save_whisper(folder: Path, **sizes: int | str) -> str:
    """Write a checkpoint of `SIZES`, changed by `sizes`, into `folder`, and return the folder."""
    import transformers

    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**(SIZES | sizes)))
        # with the standard deviation of 0.02 of transformers, so narrow a model hardly depends on its input
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "embed_positions" in name:
                    parameter.mul_(0.3)
                elif parameter.ndim > 1:
                    parameter.normal_(std=parameter[0].numel() ** -0.5)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return str(folder)
