"""`proto`: prototypes that each belong to one class, with non-negative weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from otoscope.probes._prototypes import PROTOTYPE_LR, FloatPrototypes, Start, centred_tokens, check_start
from otoscope.probes.base import ClipProbe, only_layer, register
from otoscope.types import Tokens, TokenShape


@register("proto")
class Proto(ClipProbe):
    """Prototypes that each belong to one class, with non-negative weights.

        logits_c = sum_j relu(w_cj) relu(max_n <z_n / |z_n|, p_cj / |p_cj|>) + b_c
        penalty = orthogonality * |G - I|_F / (C J^2)

    Here n runs over the valid tokens and j over the J prototypes of class c. G contains the cosines between prototypes
    of the same class. This probe uses the prototypes of AudioProtoPNet. The code of AudioProtoPNet also appends two
    constant channels to z and multiplies by 1/1.01; this probe does neither. As in that code, the penalty divides one
    norm over all classes by the number of entries.

    Input x [B, 1, T, F, D], output [B, C], CJD + CJ + C parameters.

    Parameters
    ----------
    prototypes_per_class : number of prototypes of each class, J. The paper uses 20, and 10 on AudioSet.
    orthogonality : weight of the penalty.
    start : "random", or "tokens" for prototypes that start from tokens of train clips of their class, minus the mean of
        these tokens over all classes.

    References
    ----------
    AudioProtoPNet, Heinrich et al., arXiv 2404.10420; as a probe: Rauch et al., arXiv 2509.24901.

    Examples
    --------
    >>> probe = Proto(TokenShape(1, 2, 8, True, 6.25), 3, prototypes_per_class=2)
    >>> probe(Tokens(torch.randn(5, 1, 6, 2, 8))).shape, probe.penalty().ndim
    (torch.Size([5, 3]), 0)
    """

    lr = PROTOTYPE_LR
    normalises_tokens = True
    no_decay = ("prototypes",)

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        prototypes_per_class: int = 20,
        orthogonality: float = 1.0,
        start: Start = "random",
    ) -> None:
        super().__init__(shape, n_classes)
        check_start(start)
        self.start = start
        self.prototypes = FloatPrototypes(n_classes * prototypes_per_class, shape.dim)
        self.weight = nn.Parameter(torch.ones(n_classes, prototypes_per_class))
        self.bias = nn.Parameter(torch.zeros(n_classes))
        self.orthogonality = orthogonality

    def prepare(self, load: Callable[[Tensor], Tokens], targets: Tensor) -> None:
        """See `Probe.prepare`; takes the prototypes from clips of their class if `start` is "tokens".

        A class without train clips takes them from clips of any class.
        """
        if self.start == "tokens":
            present = torch.where((targets > 0).any(0), targets > 0, torch.ones_like(targets, dtype=torch.bool))
            chosen = torch.multinomial(present.T.float(), self.weight.shape[1], replacement=True)
            self.prototypes.start_from(centred_tokens(load, chosen.flatten())[0])

    def forward(self, tokens: Tokens) -> Tensor:
        s = self.prototypes.max_similarity(only_layer(tokens.normalised().flat), tokens.token_mask).relu()
        return torch.einsum("bcj,cj->bc", s.view(-1, *self.weight.shape), self.weight.relu()) + self.bias

    def penalty(self) -> Tensor:
        """The orthogonality term, a scalar."""
        p = self.prototypes.normalised().view(*self.weight.shape, -1)
        off = p @ p.transpose(1, 2) - torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
        norm: Tensor = torch.linalg.vector_norm(off)
        return self.orthogonality * norm / off.numel()

    def macs(self, n_tokens: int) -> int:
        K, D = self.prototypes.weight.shape
        return n_tokens * (D + K * D) + K
