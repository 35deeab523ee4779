"""What the models of the engine `otoscope.encoders._frame` share: the shape of tokens, and names of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from otoscope.encoders._frame import FrameBody, FrameConfig
from otoscope.encoders.catalog._checkpoint import Converted
from otoscope.encoders.catalog._ported import Ported
from otoscope.types import TokenShape

_RENAMED = {
    "patch_embed.proj.": "patches.conv.",
    "attn.qkv.": "qkv.",
    "attn.proj.": "out.",
    "mlp.fc1.": "up.",
    "mlp.fc2.": "down.",
}
_POSITIONS = {
    "time_pos_embed": "time_positions",
    "time_new_pos_embed": "time_positions",
    "freq_pos_embed": "band_positions",
    "freq_new_pos_embed": "band_positions",
}
_HEADS = ("outputlayer.", "head.", "head_dist.", "weak_head.", "strong_head.")


class FramePorted(Ported):
    """The base class of the models of `FrameBody`.

    Attributes
    ----------
    config : sizes and switches of the body.
    """

    config: ClassVar[FrameConfig]

    def build(self) -> FrameBody:
        """Create the body; weights of linear layers are drawn from Xavier's uniform distribution."""
        body = FrameBody(self.config)
        body.initialise(nn.init.xavier_uniform_)
        return body

    def token_shape(self) -> TokenShape:
        """Return the shape of the tokens; the frame rate is that of joined windows."""
        c = self.config
        steps = c.steps_of(self.window_frames)
        return TokenShape(c.depth, c.bands, c.dim, c.special > 0, steps * self.sample_rate / self.window_samples)

    def padded_length(self, samples: int) -> int:
        """Return the length of a clip rounded up to whole time steps, or to whole windows.

        It is whole windows for a clip that is longer than one, and where attention takes padding into account.

        Parameters
        ----------
        samples : length of a clip in samples.
        """
        if not self.config.masked or samples > self.window_samples:
            return super().padded_length(samples)
        step = round(self.step * self.sample_rate)
        return max(1, math.ceil(samples / step)) * step


def converted(
    tensors: Mapping[str, Tensor],
    *,
    prefixes: tuple[str, ...] = (),
    renamed: Mapping[str, str] | None = None,
    unused: tuple[str, ...] = (),
) -> Converted:
    """Convert the weights of a transformer whose modules have the names of the `timm` library.

    Parameters
    ----------
    tensors : weights by their published names.
    prefixes : the first one with which a name begins is removed from it, before anything else.
    renamed : parts of names and their replacements, in this order; those of blocks and patches need not be given.
    unused : beginnings of the names of weights that are not needed.

    Returns
    -------
    Weights of a `FrameBody`. Classifiers have their published names. What is not known keeps its name.
    """
    body: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    ignored = []
    for published, value in tensors.items():
        name = published.removeprefix(next((prefix for prefix in prefixes if published.startswith(prefix)), ""))
        if name.startswith(unused) or name.endswith(".num_batches_tracked"):
            ignored.append(published)
        elif name.startswith(_HEADS):
            head[name] = value
        elif name in _POSITIONS:
            body[_POSITIONS[name]] = _rows(value)
        else:
            for old, new in {**_RENAMED, **(renamed or {})}.items():
                name = name.replace(old, new)
            body[name] = value
    _join_special_tokens(body)
    return Converted(body, head, tuple(ignored))


def _rows(embedding: Tensor) -> Tensor:
    """Positions [1, D, F, T], of which F or T is 1, as [F * T, D]; others unchanged, so that they are refused."""
    return embedding.flatten(2)[0].T if embedding.ndim == 4 and len(embedding) == 1 else embedding


def _join_special_tokens(body: dict[str, Tensor]) -> None:
    """Replace cls token, distillation token and their positions by their sum, where all of them are there."""
    names = ("cls_token", "dist_token", "new_pos_embed")
    if all(name in body and body[name].ndim == 3 for name in names):
        cls_token, distillation, position = (body.pop(name)[0] for name in names)
        body["special"] = torch.cat([cls_token, distillation]) + position


def truncated_normal_(weight: Tensor) -> Tensor:
    """Fill a weight from a truncated normal distribution of standard deviation 0.02, as in the ViTs of `timm`."""
    return nn.init.trunc_normal_(weight, std=0.02)
