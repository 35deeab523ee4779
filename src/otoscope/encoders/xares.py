"""The encoder `xares`: a class written for X-ARES (Zhang et al., Interspeech 2025)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from otoscope.encoders._bridge import WaveformEncoder, check_file, class_of, module_of
from otoscope.encoders._lengths import Maps
from otoscope.encoders._local_code import imports_beside
from otoscope.encoders._long_clips import LONGEST, window_text
from otoscope.encoders.base import register
from otoscope.local_code import source_digest


@register("xares")
class Xares(WaveformEncoder):
    """A torch module in a file whose class name ends in `Encoder`; one layer, F = 1.

    It has `sampling_rate`, `output_dim` and `hop_size_in_ms`, and maps waveforms [B, S] to embeddings [B, T, D]. The
    code of the file is executed, so give only files that you trust. The weights, the file
    and the files beside it that it imports are part of the identity.

    Parameters
    ----------
    file : path of the .py file.
    cls : name of the class; None if the file defines one class whose name ends in `Encoder`.
    window : length in seconds of the windows into which longer clips are cut; None for clips that are computed as a
        whole. Shorter clips are not padded.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ValueError : when the class does not have the interface.
    """

    revision = 1
    provenance = ("file",)
    written = "file:cls"

    def __init__(self, *, file: str, cls: str | None = None, window: float | None = LONGEST) -> None:
        super().__init__()
        module = module_of("xares", file)
        model_class = class_of("xares", module, cls, nn.Module, "" if cls else "Encoder")
        with imports_beside(file):
            self.model = model_class()
        missing = [n for n in ("sampling_rate", "output_dim", "hop_size_in_ms") if not hasattr(self.model, n)]
        if missing:
            raise ValueError(f"encoder 'xares': {model_class.__name__} lacks {' and '.join(missing)}; see X-ARES")
        self.sample_rate = int(self.model.sampling_rate)
        self._code = f"{model_class.__name__} {source_digest(file)}"
        self.front_end_id = f"xares-{self.sample_rate}-{window_text(window)}"
        self.shape = self.measure(1000 / float(self.model.hop_size_in_ms), window)
        if self.shape.dim != self.model.output_dim:
            raise ValueError(
                f"encoder 'xares': {model_class.__name__} declares output_dim={self.model.output_dim}, but its "
                f"embeddings have width {self.shape.dim}"
            )

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that the file exists; see `Encoder.check_weights`."""
        check_file(cls.name, options.get("file", ""))

    @property
    def digest(self) -> str:
        """The sha256 of the weights and of the file."""
        return hashlib.sha256(f"{super().digest} {self._code}".encode()).hexdigest()

    def maps(self, waves: Tensor) -> Maps:
        """The embeddings as one layer [B, 1, T, 1, D].

        Parameters
        ----------
        waves : float [B, S].
        """
        return self.model(waves)[:, None, :, None], None
