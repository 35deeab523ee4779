"""`protofloat`: `protobin` without binarisation."""

from __future__ import annotations

from otoscope.probes._prototypes import FloatPrototypes, SharedPrototypes
from otoscope.probes.base import ClipProbe, FrameProbe, register


@register("protofloat")
class Protofloat(SharedPrototypes, ClipProbe):
    """s_k = max_n <z_n / |z_n|, p_k / |p_k|> over valid tokens; logits = W s + b.

    Input: x [B, 1, T, F, D]. Output: [B, C]. K = C * prototypes_per_class; CJD + C^2 J + C parameters (the float
    ablation of Unmute, arXiv 2509.24901).

    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> Protofloat(TokenShape(1, 2, 8, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 8))).shape
    torch.Size([5, 3])
    """

    kind = FloatPrototypes
    stackable = True
    forward = SharedPrototypes.clip_logits


@register("protofloat-frame")
class ProtofloatFrame(SharedPrototypes, FrameProbe):
    """`protofloat` with the maximum over frequency at each time step. Output: [B, T, C].

    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> ProtofloatFrame(TokenShape(1, 2, 8, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 8))).shape
    torch.Size([5, 6, 3])
    """

    kind = FloatPrototypes
    forward = SharedPrototypes.frame_logits
