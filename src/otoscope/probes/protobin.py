"""`protobin`: binary prototypes that all classes share, then a linear layer."""

from __future__ import annotations

from otoscope.probes._linear_head import LinearHeadProbe
from otoscope.probes._prototypes import BinaryPrototypes, SharedPrototypes
from otoscope.probes.base import FrameProbe, register


@register("protobin")
class Protobin(SharedPrototypes, LinearHeadProbe):
    """Binary prototypes that all classes share: the largest cosine of each with any token, then a linear layer.

        p_k = sign(v_k) in {-1, +1}^D
        s_k = max_n <z_n / |z_n|, p_k / sqrt(D)>
        logits = W s + b

    Here n runs over the valid tokens and k over K = C J prototypes, which are shipped in K D / 8 bytes. The gradient
    passes the sign unchanged (straight-through estimator). For each clip b and prototype k it comes from one token,
    that of largest cosine, z*: dL/dp_k = sum_b g_bk z* / (|z*| sqrt(D)). There is no orthogonality penalty, because
    random signs are nearly orthogonal. The code of BAT gives the same values, but it normalises after the sign inside
    the graph, so that its gradient lacks the component along p_k.

    Input x [B, 1, T, F, D], output [B, C], CJD + C^2 J + C parameters.

    Parameters
    ----------
    prototypes_per_class : number of prototypes of each class, J. The paper uses 20, and 10 on AudioSet.
    start : "random", or "tokens" for prototypes that start from tokens of the train clips minus their mean. The linear
        layer then starts from the exact solution for these prototypes.
    selection : "exact" or "int8". "int8" selects tokens by int8 products, which is faster and may select another token
        of nearly the same cosine. Values and gradients are exact for the selected token (`otoscope.ops.max_cosine`).

    References
    ----------
    Rauch et al., "Unmute the Patch Tokens", arXiv 2509.24901, section 3.

    Examples
    --------
    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> probe = Protobin(TokenShape(1, 2, 8, True, 6.25), 3, prototypes_per_class=4)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 8))).shape, probe.prototypes.normalised().shape
    (torch.Size([5, 3]), torch.Size([12, 8]))
    """

    prototype_class = BinaryPrototypes
    stackable = True
    features = SharedPrototypes.clip_features


@register("protobin-frame")
class ProtobinFrame(SharedPrototypes, FrameProbe):
    """`protobin` with the maximum over frequency at each time step.

    Input x as for `protobin`, output [B, T, C]. The options and the number of parameters are those of `protobin`.

    Examples
    --------
    >>> import torch
    >>> from otoscope.types import Tokens, TokenShape
    >>> ProtobinFrame(TokenShape(1, 2, 8, True, 6.25), 3)(Tokens(torch.randn(5, 1, 6, 2, 8))).shape
    torch.Size([5, 6, 3])
    """

    prototype_class = BinaryPrototypes
    forward = SharedPrototypes.frame_logits
