"""Encoders that compute the tokens of some layers without keeping those of the others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from otoscope.encoders._features import Features
from otoscope.encoders.base import Encoder
from otoscope.types import Tokens


class LayeredEncoder(Encoder):
    """The base class of encoders that implement `embed_layers`, for a limited number of windows at once."""

    def embed(self, features: Features) -> Tokens:
        """Compute the tokens of all layers.

        Parameters
        ----------
        features : the output of `front_end`.

        Returns
        -------
        Tokens [B, L, T, F, D], with cls [B, L, D] where `shape.has_cls`.
        """
        return self.embed_layers(features, range(self.shape.layers))

    @abstractmethod
    def embed_layers(self, features: Features, layers: Sequence[int]) -> Tokens:
        """Compute the tokens of some layers.

        Parameters
        ----------
        features : the output of `front_end`.
        layers : indices of layers, in the order of the result.

        Returns
        -------
        Tokens [B, L, T, F, D] with these layers, and cls [B, L, D] where `shape.has_cls`.
        """
