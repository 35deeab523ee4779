"""The reader of transformers models of other kinds, which measures their frame rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from otoscope.encoders._frame_rate import check_covered, frames_per_step
from otoscope.encoders._hf_reader import Reader, States, as_sequence
from otoscope.encoders._long_clips import LONGEST
from otoscope.types import Wave


class Measured(Reader):
    """A model of another kind that gives one sequence of hidden states for clips of any length.

    The frame rate is measured with silence of 4 and of 8 s. Time is the axis of the features that grows with the clip.
    Frames that the feature extractor declares as padding are removed.
    """

    def __init__(self, body: Any, extractor: Any, window: float | None) -> None:
        super().__init__(body, extractor, None)
        self._kind, self._time, self.per_step = body.config.model_type, 0, 0.0
        waves = [np.zeros(seconds * self.rate, np.float32) for seconds in (4, 8)]
        if len({len(self.features(wave)) for wave in waves}) == 1:
            self._time = 1
        self.variant = (
            "" if all(len(self.features(wave)) == len(self._extracted(wave)[0]) for wave in waves) else "-valid"
        )
        inputs = [torch.from_numpy(np.ascontiguousarray(self.features(wave)))[None] for wave in waves]
        frames = [x.shape[1] for x in inputs]
        if frames[0] == frames[1]:
            raise ValueError(not_known(self._kind, f"4 and 8 s of audio both have {frames[0]} frames of features"))
        with torch.no_grad():
            short, long = (self.states(body, x, torch.tensor([x.shape[1]])) for x in inputs)
        steps = [states[0][-1].shape[1] for states in (short, long)]
        if steps[0] == steps[1] or len({state.shape for state in long[0]}) > 1:
            raise ValueError(
                not_known(
                    self._kind, f"4 and 8 s of audio give {steps} tokens in the last of {len(long[0])} hidden states"
                )
            )
        per_second = (frames[1] - frames[0]) / 4
        self.per_step = frames_per_step(frames, steps, lambda n: self._count(body, inputs[1][:, :n]))
        self.frame_rate = per_second / self.per_step
        self.longest = LONGEST if window is None else window
        self._layers, self._width = len(long[0]) - 1, long[0][-1].shape[-1]

    def width(self, body: Any) -> int:  # noqa: ARG002
        return self._width

    def depth(self, body: Any) -> int:  # noqa: ARG002
        return self._layers

    def features(self, wave: Wave) -> np.ndarray[Any, Any]:
        values, valid = self._extracted(wave)
        return values[:valid]

    def _count(self, body: Any, x: Tensor) -> int:
        """The number of time steps of features [1, frames, bins]."""
        with torch.no_grad():
            return self.states(body, x, torch.tensor([x.shape[1]]))[0][-1].shape[1]

    def _extracted(self, wave: Wave) -> tuple[np.ndarray[Any, Any], int]:
        """What the feature extractor returns for a clip, [frames, bins], and the number of valid frames."""
        extracted = self.extractor(wave, sampling_rate=self.rate, return_tensors="np")
        values = np.asarray(extracted[self.extractor.model_input_names[0]][0], np.float32)
        values = values[:, None] if values.ndim == 1 else np.moveaxis(values, self._time, 0)
        mask = np.asarray(extracted.get("attention_mask", [[]])[0], bool)
        return values, int(mask.sum()) if len(mask) == len(values) else len(values)

    def steps(self, body: Any, frames: Tensor) -> Tensor:  # noqa: ARG002
        return torch.ones_like(frames)

    def states(self, body: Any, x: Tensor, frames: Tensor) -> States:  # noqa: ARG002
        inputs = x[..., 0] if x.shape[2] == 1 else x.movedim(1, 1 + self._time)
        try:
            outputs = body(**{body.main_input_name: inputs}, output_hidden_states=True)
            states = as_sequence(outputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            reason = f"{type(body).__name__} refuses a clip of {x.shape[1]} frames, or returns no hidden states"
            raise ValueError(not_known(self._kind, f"{reason} ({type(error).__name__}: {error})")) from error
        if self.per_step:
            check_covered("hf", states[-1].shape[1], x.shape[1] / self.per_step, self.frame_rate)
        return states, None

    def compiled_blocks(self, body: Any) -> list[nn.Module]:
        return [body]

    def groups(self, body: Any) -> list[list[nn.Parameter]]:
        return [list(body.parameters())]


def not_known(kind: str | None, reason: str) -> str:
    """Say why a model of a kind that has no reader of its own cannot be used."""
    return (
        f"models of type {kind!r} have no reader of their own here, and cannot be used as others: {reason}; wrap the "
        "model in a file, as in docs/encoders.md, HEAR, X-ARES, S3PRL (s3prl:FILE has all hidden states as layers)"
    )
