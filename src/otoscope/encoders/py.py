"""The encoder `py`: an `Encoder` in a Python file, without registering it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from otoscope.encoders._bridge import check_file, class_of, module_of
from otoscope.encoders._features import Features
from otoscope.encoders.base import Encoder, register
from otoscope.types import AudioBatch, Tokens


@register("py")
class FromFile(Encoder):
    """A subclass of `Encoder` that a Python file defines.

    The code of the file is executed, so give only files that you trust. The identity of the encoder in the file is part
    of the identity.

    Parameters
    ----------
    file : path of the .py file.
    cls : name of the class; None if the file defines one encoder.
    options : options of the class, by name.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    TypeError : when the class has no such option or is not complete.
    ValueError : when the file has no such class.
    """

    revision = 1
    provenance = ("file",)
    written = "file:cls"

    def __init__(self, *, file: str, cls: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.inner = _class(file, cls)(**(options or {}))
        for name in ("sample_rate", "shape", "front_end_id", "control", "padding_neutral"):
            setattr(self, name, getattr(self.inner, name))

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
        """The sha256 of the weights, the options and the code of the encoder in the file."""
        content = f"{self.inner.digest} {self.inner.options_text} {self.inner.code_text}"
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

    def embed(self, features: Features) -> Tokens:
        """Compute the tokens of the encoder in the file.

        Parameters
        ----------
        features : the output of `front_end`.

        Returns
        -------
        Tokens [B, L, T, F, D].
        """
        return self.inner.embed(features)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group the parameters as the encoder in the file does."""
        return self.inner.depth_groups()


def _class(file: str, name: str | None) -> type[Encoder]:
    """The class in the file. Its name is that of the class, unless it is registered."""
    encoder_class: type[Encoder] = class_of("py", module_of("py", file), name, Encoder)
    if not hasattr(encoder_class, "name"):
        encoder_class.name = encoder_class.__name__
    return encoder_class
