"""The base class of engines: the part of an encoder with published weights that several models share."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Body(nn.Module, ABC):
    """The part of an encoder that has weights: features of a window to the outputs of all layers.

    Attributes
    ----------
    checkpointing : whether training computes activations again in the backward pass, which needs less memory.
    """

    checkpointing: bool = False

    @abstractmethod
    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the tokens of every layer.

        Parameters
        ----------
        features : float [B, frames, bins]. Features of windows, all of the same length.
        frames : int64 [B]. Number of frames with audio, at least 1. The others are padding.

        Returns
        -------
        x : float [B, L, T, F, D]. The output of every block; a final norm is applied to the last one.
        cls : float [B, L, D]. The cls token of every layer; None for a model without one.
        """

    @abstractmethod
    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Group all parameters by depth, from input to output; see `Encoder.depth_groups`."""
