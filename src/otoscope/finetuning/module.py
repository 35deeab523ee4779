"""An encoder with a head on top, as one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from otoscope.encoders import Encoder, Features
from otoscope.probes import Probe
from otoscope.train import loader


class EncoderWithHead(nn.Module):
    """Maps features to logits.

    Parameters
    ----------
    encoder : the encoder. Its front end is not used here.
    head : a probe for tokens with the layers `layers`.
    layers : encoder layers that the head reads.
    depth_groups : trained parameters of the encoder, one list for each depth, from input to output.
    freezes_batch_norm : whether BatchNorm layers of the encoder keep their statistics in training mode.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: Probe,
        layers: tuple[int, ...],
        depth_groups: Sequence[Sequence[nn.Parameter]],
        *,
        freezes_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.head, self.layers, self.depth_groups = encoder, head, layers, depth_groups
        self.freezes_batch_norm = freezes_batch_norm

    def forward(self, features: Features) -> Tensor:
        """Logits.

        Parameters
        ----------
        features : what the front end returns for B clips.

        Returns
        -------
        float [B, C]. Logits, with a gradient to every trained parameter.
        """
        return self.head(loader.select(self.encoder.embed(features), self.head.reads, self.layers))  # type: ignore[no-any-return]

    def penalty(self) -> Tensor | None:
        """The penalty of the head."""
        return self.head.penalty()

    def train(self, mode: bool = True) -> Self:
        """Switch between training mode and evaluation mode."""
        super().train(mode)
        if mode and self.freezes_batch_norm:
            for part in self.encoder.modules():
                part.train(not isinstance(part, _BatchNorm))
        return self
