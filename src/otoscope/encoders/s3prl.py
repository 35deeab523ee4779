"""The encoder `s3prl`: an upstream with the interface of S3PRL (Yang et al., Interspeech 2021)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.encoders._bridge import WaveformEncoder, check_file, class_of, module_of
from otoscope.encoders._lengths import Maps
from otoscope.encoders._local_code import imports_beside
from otoscope.encoders._long_clips import LONGEST, window_text
from otoscope.encoders.base import register
from otoscope.local_code import source_digest


@register("s3prl")
class S3prl(WaveformEncoder):
    """An upstream that maps waveforms and their lengths to a list of hidden states; each of them is a layer, F = 1.

    The frame rate is measured. Where the upstream comes from a file, the code of the file is executed, so give only
    files that you trust; the file and the files beside it that it imports are part of the identity, as the weights are.

    Parameters
    ----------
    upstream : name of an upstream of S3PRL, which must be installed, or path of a .py file with a class of the same
        interface.
    cls : name of the class in the file; None if it defines one torch module.
    window : length in seconds of the windows into which longer clips are cut; None for clips that are computed as a
        whole. Shorter clips are not padded.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ImportError : when S3PRL is needed and not installed.
    ValueError : when the upstream does not have the interface.
    """

    revision = 1
    provenance = ("upstream",)
    written = "upstream:cls"
    sample_rate = 16000

    def __init__(self, *, upstream: str, cls: str | None = None, window: float | None = LONGEST) -> None:
        super().__init__()
        module = module_of("s3prl", upstream if upstream.endswith(".py") else "s3prl.nn")
        if upstream.endswith(".py"):
            model_class = class_of("s3prl", module, cls, nn.Module)
            with imports_beside(upstream):
                self.model = model_class()
            self._code = f"{model_class.__name__} {source_digest(upstream)}"
        elif cls is not None:
            raise ValueError(f"encoder 's3prl': cls={cls!r} is for an upstream in a .py file; omit it for {upstream}")
        else:
            self.model, self._code = module.S3PRLUpstream(upstream), upstream
        self.front_end_id = f"s3prl-16000-{window_text(window)}"
        self.shape = self.measure(window=window)

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that the file exists; see `Encoder.check_weights`."""
        if options.get("upstream", "").endswith(".py"):
            check_file(cls.name, options["upstream"])

    @property
    def digest(self) -> str:
        """The sha256 of the weights, and of the file or the name of the upstream."""
        return hashlib.sha256(f"{super().digest} {self._code}".encode()).hexdigest()

    def maps(self, waves: Tensor) -> Maps:
        """All hidden states [B, L, T, 1, D].

        Parameters
        ----------
        waves : float [B, S].
        """
        lengths = torch.full((len(waves),), waves.shape[1], device=waves.device)
        states, counts = self.model(waves, lengths)
        shapes = {tuple(state.shape) for state in states}
        if len(shapes) != 1:
            raise ValueError(f"encoder 's3prl': the hidden states have several shapes: {sorted(shapes)}")
        steps = min(int(count.min()) for count in counts)
        return torch.stack(list(states), 1)[:, :, :steps, None], None
