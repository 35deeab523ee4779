"""`protobin`: binary prototypes shared by all classes, the largest cosine of each, a linear layer."""

from __future__ import annotations

from otoscope.probes._prototypes import BinaryPrototypes, SharedPrototypes
from otoscope.probes.base import ClipProbe, FrameProbe, register


@register("protobin")
class Protobin(SharedPrototypes, ClipProbe):
    """p_k = sign(p~_k) in {-1, +1}^D; s_k = max_n <z_n / |z_n|, p_k / sqrt(D)> over valid tokens; logits = W s + b.

    Input: x [B, 1, T, F, D]. Output: [B, C]. K = C * prototypes_per_class; CJD + C^2 J + C parameters. The gradient
    passes the sign straight through and reaches one token for each clip and prototype:
    dL/dp_k = sum_b g[b, k] z[b, n*(b, k)] / (|z| sqrt(D)). Ships K D / 8 bytes of prototypes. J = 20, 10 on AudioSet
    (Unmute, arXiv 2509.24901, section 3). No orthogonality term: random signs are nearly orthogonal already. BAT's code
    divides by the length after the sign inside the graph, so its gradient lacks the component along p_k; values agree.

    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> probe = Protobin(TokenShape(1, 2, 8, True, 6.25), 3, prototypes_per_class=4)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 8))).shape, probe.prototypes.normalised().shape
    (torch.Size([5, 3]), torch.Size([12, 8]))
    """

    kind = BinaryPrototypes
    stackable = True
    forward = SharedPrototypes.clip_logits


@register("protobin-frame")
class ProtobinFrame(SharedPrototypes, FrameProbe):
    """`protobin` with the maximum over frequency at each time step. Output: [B, T, C].

    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> ProtobinFrame(TokenShape(1, 2, 8, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 8))).shape
    torch.Size([5, 6, 3])
    """

    kind = BinaryPrototypes
    forward = SharedPrototypes.frame_logits
