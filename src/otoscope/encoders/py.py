"""The encoder `py`: an `Encoder` in a Python file, without registering it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.encoders._bridge import SECONDS, check_file, class_of, module_of
from otoscope.encoders._features import Features
from otoscope.encoders._layered import LayeredEncoder
from otoscope.encoders._lengths import Maps, by_length
from otoscope.encoders._local_code import imports_beside
from otoscope.encoders._long_clips import Cut, in_windows
from otoscope.encoders.base import Encoder, register
from otoscope.local_code import local_files, source_digest
from otoscope.types import AudioBatch, Tokens


@register("py")
class FromFile(LayeredEncoder):
    """A subclass of `Encoder` that a Python file defines.

    The code of the file is executed, so give only files that you trust. The identity of the encoder in the file is part
    of the identity, and so are the files beside it that it imports.

    Parameters
    ----------
    file : path of the .py file.
    cls : name of the class; None if the file defines one encoder.
    options : options of the class, by name.
    window : length in seconds of the windows into which longer clips are cut, for a class whose features have a fixed
        number of frames in a second; None for clips that the class receives as a whole.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    TypeError : when the class has no such option or is not complete.
    ValueError : when the file has no such class, or when its features cannot be cut.
    """

    revision = 1
    provenance = ("file",)
    written = "file:cls"

    def __init__(
        self,
        *,
        file: str,
        cls: str | None = None,
        options: Mapping[str, Any] | None = None,
        window: float | None = None,
    ) -> None:
        super().__init__()
        inner = _class(file, cls)
        with imports_beside(file):
            self.inner = inner(**(options or {}))
        self._beside = source_digest(file) if len(local_files(Path(file).resolve())) > 1 else ""
        for name in ("sample_rate", "shape", "front_end_id", "control", "padding_neutral"):
            setattr(self, name, getattr(self.inner, name))
        self._cut = None if window is None else self._measured(window)

    def _measured(self, window: float) -> Cut:
        """How long clips are cut, from the numbers of frames of clips of 4 and of 8 s."""
        rate, counts = self.sample_rate, []
        for seconds in SECONDS:
            samples = seconds * rate
            batch = AudioBatch(torch.zeros(1, samples), torch.tensor([samples]), rate)
            counts.append(self.inner.front_end(batch).x.shape[1])
        per_second = (counts[1] - counts[0]) / (SECONDS[1] - SECONDS[0])
        if per_second <= 0 or abs(counts[0] - SECONDS[0] * per_second) > per_second / self.shape.frame_rate:
            raise ValueError(
                f"encoder 'py': window={window:g} s, but features of {SECONDS[0]} and {SECONDS[1]} s of audio have "
                f"{counts[0]} and {counts[1]} frames, so that they cannot be cut; cut long clips inside the class"
            )
        return Cut.of(window, self.shape.frame_rate, per_second / self.shape.frame_rate)

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that the file exists; see `Encoder.check_weights`."""
        check_file(cls.name, options.get("file", ""))

    @classmethod
    def control_options(cls, options: Mapping[str, Any]) -> dict[str, Any] | None:
        """Compute the options of the control: those of the class in the file.

        Parameters
        ----------
        options : options of this encoder.
        """
        inner = _class(options["file"], options.get("cls")).control_options(options.get("options") or {})
        return None if inner is None else {**options, "options": inner}

    @property
    def digest(self) -> str:
        """The sha256 of the weights, the options and the code of the encoder in the file, and of files beside it."""
        content = f"{self.inner.digest} {self.inner.options_text} {self.inner.code_text} {self._beside}".rstrip()
        return hashlib.sha256(content.encode()).hexdigest()

    def front_end(self, batch: AudioBatch) -> Features:
        """Compute the features of the encoder in the file.

        Parameters
        ----------
        batch : waveforms at `sample_rate`.

        Returns
        -------
        Features [B, frames, bins].
        """
        return self.inner.front_end(batch)

    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Compute the tokens of some layers of the encoder in the file, window by window where `window` is set.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of layers, in the order of the result.
        """
        cut = self._cut
        if cut is None or int(features.lengths.max()) <= cut.frames:
            return self.inner.embed_layers(features, layers)

        def compute(x: Tensor) -> Maps:
            frames = torch.full((len(x),), x.shape[1], device=x.device)
            tokens = self.inner.embed_layers(Features(x, frames), layers)
            return tokens.x[:, :, : int(tokens.mask[0].sum())], tokens.cls

        return by_length(features.x, features.lengths, lambda x: in_windows(x, cut, compute))

    def padded_length(self, samples: int) -> int:
        """Return the number of samples for which a clip costs time; see `Encoder.padded_length`.

        Parameters
        ----------
        samples : length of a clip in samples.
        """
        return self.inner.padded_length(samples)

    def compiled_blocks(self) -> Sequence[nn.Module]:
        """List the blocks of the encoder in the file; see `Encoder.compiled_blocks`."""
        return self.inner.compiled_blocks()

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters as the encoder in the file does."""
        return self.inner.depth_groups()


def _class(file: str, name: str | None) -> type[Encoder]:
    """The class in the file. Its name is that of the class, unless it is registered."""
    encoder_class: type[Encoder] = class_of("py", module_of("py", file), name, Encoder)
    if not hasattr(encoder_class, "name"):
        encoder_class.name = encoder_class.__name__
    return encoder_class
