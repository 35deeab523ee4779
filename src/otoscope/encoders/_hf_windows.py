"""Readers of transformers models: those with a fixed window (AST, Whisper and its relatives, CLAP), and Qwen3-Omni."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from otoscope.encoders._hf_reader import Reader, States, as_sequence
from otoscope.encoders._long_clips import LONGEST
from otoscope.types import Wave


class Patches(Reader):
    """AST: overlapping patches of a log-mel spectrogram, ordered by frequency, after a cls and a distillation token.

    The map has shape [T, F]. The cls token is the first of the two; AST's own classifier averages both.
    """

    blocks = "layers"
    tail = ("layernorm",)
    has_cls = True

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, None)
        if not hasattr(body, "layers"):
            self.blocks = "encoder.layer"  # before transformers 5
        config = body.config
        self.patch, self.stride = int(config.patch_size), int(config.time_stride)
        self.freq = (int(config.num_mel_bins) - self.patch) // int(config.frequency_stride) + 1
        self.hop = self.rate // 100
        self.frame_rate = self.rate / self.hop / self.stride
        length = int(config.max_length)
        if window is not None:
            length = round(window * self.rate / self.hop)
            if not self.patch <= length <= config.max_length:
                raise ValueError(f"window={window} s; allowed: {self.patch / 100:g} to {config.max_length / 100:g} s")
            self._cut(body, length)
        extractor.max_length = self.length = length
        self.window = length * self.hop

    def _cut(self, body: Any, length: int) -> None:
        """Keep the positions of the window only."""
        table = body.embeddings.position_embeddings.detach()
        special, grid = table[:, :2], table[:, 2:].unflatten(1, (self.freq, -1))
        steps = (length - self.patch) // self.stride + 1
        kept = torch.cat([special, grid[:, :, :steps].flatten(1, 2)], 1)
        body.embeddings.position_embeddings = nn.Parameter(kept)
        body.config.max_length = length

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        frame = self.hop * 5 // 2
        if len(wave) <= frame:
            raise ValueError(f"a clip of {len(wave)} samples is too short for frames of {frame} samples")
        return np.asarray(self.extractor(wave, sampling_rate=self.rate, return_tensors="np")["input_values"][0])

    def frames(self, samples: int, features: np.ndarray[Any, Any]) -> int:
        return min(len(features), (samples - self.hop * 5 // 2) // self.hop + 1)

    def steps(self, body: Any, frames: Tensor) -> Tensor:
        steps = (int(body.config.max_length) - self.patch) // self.stride + 1
        return ((frames + self.stride - 1) // self.stride).clamp(max=steps)

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:  # noqa: ARG002
        outputs = body(x, output_hidden_states=True)
        states = [*outputs.hidden_states[:-1], outputs.last_hidden_state]
        maps = [state[:, 2:].unflatten(1, (self.freq, -1)).transpose(1, 2) for state in states]
        return maps, [state[:, 0] for state in states]


class Speech(Reader):
    """Whisper and audio encoders derived from it: log-mel frames, two convolutions, sinusoidal positions.

    Qwen2-Audio and Audio Flamingo 3 average two tokens before their final norm. Their hidden states are averaged
    likewise, so that every layer has the same time axis.

    Attributes
    ----------
    average : number of tokens that are averaged into one.
    """

    blocks = "layers"
    tail = ("layer_norm",)
    average = 1

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, None)
        self.hop = int(extractor.hop_length)
        positions = int(body.config.max_source_positions)
        token = 2 * self.hop
        if window is not None:
            longest = positions * token / self.rate
            positions = round(window * self.rate / token)
            if not (math.isclose(positions * token, window * self.rate) and 0 < window <= longest):
                raise ValueError(
                    f"window={window} s; it must be a whole number of tokens of {token / self.rate:g} s, at most "
                    f"{longest:g} s"
                )
        fix_positions(body, positions)
        self.window, self.length = positions * token, 2 * positions
        self.frame_rate = self.rate / token / self.average

    def width(self, body: Any) -> int:
        return int(getattr(body.config, "d_model", None) or body.config.hidden_size)

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        options = {"padding": "max_length", "max_length": self.window, "sampling_rate": self.rate}
        return np.asarray(self.extractor(wave, **options, return_tensors="np")["input_features"][0]).T

    def frames(self, samples: int, features: np.ndarray[Any, Any]) -> int:  # noqa: ARG002
        return -(-samples // self.hop)

    def steps(self, body: Any, frames: Tensor) -> Tensor:
        stride = 2 * self.average
        return ((frames + stride - 1) // stride).clamp(max=int(body.config.max_source_positions) // self.average)

    def run(self, body: Any, x: Tensor, frames: Tensor) -> Any:  # noqa: ARG002
        """Call the model."""
        return body(x, output_hidden_states=True)

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:
        outputs = self.run(body, x.transpose(1, 2), frames)
        if self.average == 1:
            return as_sequence(outputs), None
        inner = [functional.avg_pool1d(s.transpose(1, 2), 2, 2).transpose(1, 2) for s in outputs.hidden_states[:-1]]
        return [state[:, :, None] for state in (*inner, outputs.last_hidden_state)], None


class AveragedSpeech(Speech):
    """Qwen2-Audio."""

    average = 2


class Flamingo(AveragedSpeech):
    """Audio Flamingo 3, which masks the padding."""

    def run(self, body: Any, x: Tensor, frames: Tensor) -> Any:
        mask = torch.arange(x.shape[2], device=x.device) < frames[:, None]
        return body(x, input_features_mask=mask.long(), output_hidden_states=True)


def fix_positions(body: Any, positions: int) -> None:
    """Keep the first positions only, as a buffer, because these sinusoids are not trained."""
    table = body.embed_positions
    weight = table.weight.detach()[:positions].clone()
    del table.weight
    table.register_buffer("weight", weight)
    table.num_embeddings = body.config.max_source_positions = positions


class Swin(Reader):
    """CLAP's HTS-AT: a Swin transformer over a spectrogram that is cut in time into bands of one square image.

    Grid and width change from stage to stage, so the layers are the blocks of the last stage. The map is put back in
    order: T is the number of bands times the columns of the image, F the number of rows of a band.
    """

    blocks = "audio_encoder.layers"
    tail = ("audio_encoder.norm",)

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, None)
        self.window = int(extractor.nb_max_samples)
        if window is not None and round(window * self.rate) != self.window:
            raise ValueError(f"window={window} s; this model has a fixed window of {self.window / self.rate:g} s")
        self.length = self.window // int(extractor.hop_length) + 1
        config = body.config
        stride = config.patch_stride if isinstance(config.patch_stride, int) else config.patch_stride[0]
        self.side = int(config.spec_size) // stride // 2 ** (len(config.depths) - 1)
        self.bands = int(config.spec_size) // int(config.num_mel_bins)
        self.freq = self.side // self.bands
        self.frame_rate = self.side * self.bands * self.rate / self.window
        self.fused = bool(config.enable_fusion)

    def width(self, body: Any) -> int:
        width: int = body.config.patch_embeds_hidden_size * 2 ** (len(body.config.depths) - 1)
        return width

    def depth(self, body: Any) -> int:
        return int(body.config.depths[-1])

    def compiled_blocks(self, body: Any) -> list[nn.Module]:
        return [block for stage in body.get_submodule(self.blocks) for block in stage.blocks]

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        extracted = self.extractor(wave, sampling_rate=self.rate, return_tensors="np")["input_features"]
        # the channels of a fused model are equal for clips of one window
        return np.asarray(extracted[0][0], np.float32)

    def frames(self, samples: int, features: np.ndarray[Any, Any]) -> int:
        assert self.window is not None
        return max(1, math.ceil(len(features) * samples / self.window))

    def steps(self, body: Any, frames: Tensor) -> Tensor:  # noqa: ARG002
        steps: Tensor = (frames * self.side * self.bands / self.length).ceil().long()
        return steps.clamp(max=self.side * self.bands)

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:  # noqa: ARG002
        longer = torch.zeros(len(x), 1, dtype=torch.bool, device=x.device) if self.fused else None
        stage, outputs = body.audio_encoder.layers[-1], []
        handles = [stage.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0]))]
        handles += [block.register_forward_hook(lambda *call: outputs.append(call[2][0])) for block in stage.blocks]
        try:
            body(x[:, None], is_longer=longer)
        finally:
            for handle in handles:
                handle.remove()
        return [self._unfold(state) for state in (*outputs[:-1], body.audio_encoder.norm(outputs[-1]))], None

    def _unfold(self, state: Tensor) -> Tensor:
        """An image [B, bands * F * columns, D] as a map [B, bands * columns, F, D]."""
        rows = state.view(len(state), self.bands, self.freq, self.side, -1)
        return rows.transpose(2, 3).flatten(1, 2)


class Packed(Reader):
    """The audio encoder of Qwen3-Omni: chunks of one second with 13 tokens, attention in longer windows, no padding.

    The final norm is applied to the last layer; the projection to the language model is not.
    """

    blocks = "layers"
    tail = ("ln_post",)

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, None)
        self.hop, self.chunk = int(extractor.hop_length), 2 * int(body.config.n_window)
        tokens = _halved(self.chunk)
        self.frame_rate, self.per_step = tokens * self.rate / self.hop / self.chunk, self.chunk / tokens
        self.unit = tokens * max(1, int(body.config.n_window_infer) // self.chunk)  # attention stays within such blocks
        self.longest = LONGEST if window is None else window

    def width(self, body: Any) -> int:
        return int(body.config.d_model)

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        padded = np.pad(wave, (0, max(0, self.extractor.n_fft - len(wave))))
        options = {"padding": False, "truncation": False, "sampling_rate": self.rate}
        return np.asarray(self.extractor(padded, **options, return_tensors="np")["input_features"][0]).T

    def steps(self, body: Any, frames: Tensor) -> Tensor:  # noqa: ARG002
        steps: Tensor = frames // self.chunk * _halved(self.chunk) + _halved(frames % self.chunk)
        return steps

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:
        lengths = torch.full_like(frames, x.shape[1])
        outputs = body(x.flatten(0, 1).T, feature_lens=lengths, output_hidden_states=True)
        states = [*outputs.hidden_states[:-1], body.ln_post(outputs.hidden_states[-1])]
        return [state.unflatten(0, (len(x), -1))[:, :, None] for state in states], None


def _halved(frames: Any) -> Any:
    """The number of tokens after three convolutions with stride 2."""
    for _ in range(3):
        frames = (frames + 1) // 2
    return frames
