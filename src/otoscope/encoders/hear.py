"""The encoder `hear`: a module with the interface of HEAR 2021 (Turian et al., PMLR 176, 2022)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from otoscope.encoders._bridge import WaveformEncoder, check_file, module_of
from otoscope.encoders._lengths import Maps
from otoscope.encoders._local_code import imports_beside
from otoscope.encoders._long_clips import LONGEST, window_text
from otoscope.encoders.base import register
from otoscope.local_code import source_digest
from otoscope.types import TokenShape


@register("hear")
class Hear(WaveformEncoder):
    """A module with `load_model` and `get_timestamp_embeddings`; one layer, F = 1.

    The frame rate is that of the timestamps. The code of the module is executed, so give only modules that you trust.
    The weights and the file of the module are part of the identity, and so are the files beside it that it imports.

    Parameters
    ----------
    module : name of an installed module, or path of a .py file.
    weights : path that `load_model` is given; None to call it without arguments.
    scene : whether the result of `get_scene_embeddings` is the cls token. It needs the width of the tokens.
    window : length in seconds of the windows into which longer clips are cut; None for clips that are computed as a
        whole. Shorter clips are not padded.

    Raises
    ------
    FileNotFoundError : when there is no such file.
    ImportError : when the module cannot be imported.
    ValueError : when the module does not have the interface.
    """

    revision = 1
    provenance = ("module", "weights")
    written = "module:weights"

    def __init__(
        self, *, module: str, weights: str | None = None, scene: bool = False, window: float | None = LONGEST
    ) -> None:
        super().__init__()
        self._module = module_of("hear", module)
        functions = ["load_model", "get_timestamp_embeddings", *(["get_scene_embeddings"] if scene else [])]
        missing = [name for name in functions if not callable(getattr(self._module, name, None))]
        if missing:
            raise ValueError(f"encoder 'hear': {module} lacks {' and '.join(missing)}; see the interface of HEAR 2021")
        if weights is not None:
            check_file("hear", weights)
        with imports_beside(module) if module.endswith(".py") else nullcontext():
            self.model = self._module.load_model(*([] if weights is None else [weights]))
        self.scene, self._weights = scene, weights
        if not isinstance(getattr(self.model, "sample_rate", None), int):
            raise ValueError(f"encoder 'hear': the model of {module} lacks the attribute sample_rate")
        self.sample_rate = int(self.model.sample_rate)
        self._code = (
            source_digest(module)
            if module.endswith(".py")
            else hashlib.sha256(Path(str(self._module.__file__)).read_bytes()).hexdigest()
        )
        self.front_end_id = f"hear-{self.sample_rate}-{window_text(window)}"
        self.shape: TokenShape = self.measure(self._frame_rate(), window)

    def _frame_rate(self) -> float:
        """The frame rate that the timestamps of four seconds of silence give."""
        times = self._module.get_timestamp_embeddings(torch.zeros(1, 4 * self.sample_rate), self.model)[1][0].double()
        steps = times.diff()
        if len(times) < 2 or float(steps.min()) <= 0 or float(steps.max() - steps.min()) > 0.5 * float(steps.mean()):
            raise ValueError("encoder 'hear': the timestamps of the module are not evenly spaced")
        return float(1000 * len(steps) / (times[-1] - times[0]))

    @classmethod
    def check_weights(cls, options: Mapping[str, Any]) -> None:
        """Check that the file of the module, unless it is installed, and that of the weights exist."""
        module, weights = options.get("module"), options.get("weights")
        if module is not None and module.endswith(".py"):
            check_file(cls.name, module)
        if weights is not None:
            check_file(cls.name, weights)

    @property
    def digest(self) -> str:
        """The sha256 of the weights and of the file of the module."""
        weights = super().digest
        if not isinstance(self.model, nn.Module) and self._weights is not None:
            weights = hashlib.sha256(Path(self._weights).read_bytes()).hexdigest()
        return hashlib.sha256(f"{weights} {self._code}".encode()).hexdigest()

    def maps(self, waves: Tensor) -> Maps:
        """The embeddings with timestamps as one layer [B, 1, T, 1, D].

        Parameters
        ----------
        waves : float [B, S].
        """
        embeddings = self._module.get_timestamp_embeddings(waves, self.model)[0].to(waves)
        if not self.scene:
            return embeddings[:, None, :, None], None
        scenes = self._module.get_scene_embeddings(waves, self.model).to(waves)
        if scenes.shape[1] != embeddings.shape[2]:
            raise ValueError(
                f"encoder 'hear': embeddings of scenes have width {scenes.shape[1]}, those with timestamps "
                f"{embeddings.shape[2]}; omit the option scene"
            )
        return embeddings[:, None, :, None], scenes[:, None]
