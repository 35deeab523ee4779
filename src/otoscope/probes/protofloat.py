"""`protofloat`: real-valued prototypes that all classes share, then a linear layer."""

from __future__ import annotations

from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes._prototypes import FloatPrototypes, SharedPrototypes
from otoscope.probes.base import FrameProbe, register


@register("protofloat")
class Protofloat(SharedPrototypes, LinearHeadProbe):
    """`protobin` with real-valued prototypes.

        s_k = max_n <z_n / |z_n|, p_k / |p_k|>
        logits = W s + b

    Here n runs over the valid tokens and k over K = C J prototypes.

    Input x [B, 1, T, F, D], output [B, C], CJD + C^2 J + C parameters.

    Parameters
    ----------
    prototypes_per_class : number of prototypes of each class, J.
    start : "random", or "tokens" for prototypes that start from tokens of the train clips minus their mean. The linear
        layer then starts from the exact solution for these prototypes.
    selection : "exact" or "int8". "int8" selects tokens by int8 products, which is faster and may select another token
        of nearly the same cosine. Values and gradients are exact for the selected token (`otoscope.ops.max_cosine`).

    References
    ----------
    The ablation without binarisation of Rauch et al., arXiv 2509.24901.

    Examples
    --------
    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> Protofloat(TokenShape(1, 2, 8, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 8))).shape
    torch.Size([5, 3])
    """

    prototype_class = FloatPrototypes
    stackable = True
    features = SharedPrototypes.clip_features


@register("protofloat-frame")
class ProtofloatFrame(SharedPrototypes, FrameProbe):
    """`protofloat` with the maximum over frequency at each time step.

    Input x as for `protofloat`, output [B, T, C]. The options and the number of parameters are those of `protofloat`.

    Examples
    --------
    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> ProtofloatFrame(TokenShape(1, 2, 8, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 8))).shape
    torch.Size([5, 6, 3])
    """

    prototype_class = FloatPrototypes
    forward = SharedPrototypes.frame_logits
