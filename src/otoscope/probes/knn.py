"""`knn`: the nearest training clips vote."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from otoscope.probes.base import ClipProbe, register
from otoscope.types import Tokens, TokenShape

BLOCK = 1 << 22
"""Cosines held at once (elements)."""


@register("knn")
class Knn(ClipProbe):
    """p_c = sum_i w_i y_ic / sum_i w_i, w_i = e^(s_i / temperature), over the k nearest; logits = log(p / (1 - p)).

    Input: cls [B, L, D] or, with feature="mean", the masked mean. Output: [B, C]. s is the cosine of the L2-normalised
    vectors (of several layers: the mean of their cosines); p is kept in [1e-6, 1 - 1e-6]. Nothing is trained: the
    training loop hands batches to `partial_fit`. k in {5 .. 200}, temperature in {.07, .1, .2} (Wu et al., arXiv
    1805.01978; Unmute, arXiv 2509.24901). Cosines are computed in bounded blocks with a running top k, from one clip
    to millions; with fewer clips than k, all of them vote.

    >>> probe = Knn(TokenShape(1, 1, 2, True, 6.25), 2, k=1)
    >>> clips = Tokens(torch.zeros(2, 1, 1, 1, 2), cls=torch.eye(2)[:, None])
    >>> probe.partial_fit(clips, torch.eye(2))
    >>> probe(clips).argmax(1).tolist()
    [0, 1]
    """

    reads = "summary"
    trained = False
    keys: Tensor
    labels: Tensor

    def __init__(
        self,
        shape: TokenShape,
        n_classes: int,
        *,
        k: int = 20,
        temperature: float = 0.07,
        feature: Literal["summary", "mean"] = "summary",
    ) -> None:
        super().__init__(shape, n_classes)
        if k < 1 or temperature <= 0:
            raise ValueError(f"knn needs k >= 1 and temperature > 0, found k={k}, temperature={temperature}")
        if feature not in ("summary", "mean"):
            raise ValueError(f"knn feature {feature!r}; allowed: 'summary', 'mean'")
        self.k, self.temperature, self.feature = k, temperature, feature
        self.register_buffer("keys", torch.empty(0, shape.layers * shape.dim))
        self.register_buffer("labels", torch.empty(0, n_classes))
        self._new: list[tuple[Tensor, Tensor]] = []

    def _embed(self, tokens: Tokens) -> Tensor:
        vectors = tokens.mean if self.feature == "mean" else tokens.summary
        return F.normalize(vectors, dim=2).flatten(1) / math.sqrt(vectors.shape[1])

    def partial_fit(self, tokens: Tokens, targets: Tensor) -> None:
        """Add clips [B] with targets [B, C], 0 to 1."""
        self._new.append((self._embed(tokens).detach(), targets.detach().to(tokens.x.dtype)))

    def _gather(self) -> None:
        if self._new:
            keys, labels = zip(*self._new, strict=True)
            self.keys, self.labels = (
                torch.cat([self.keys.to(keys[0]), *keys]),
                torch.cat([self.labels.to(labels[0]), *labels]),
            )
            self._new.clear()

    def forward(self, tokens: Tokens) -> Tensor:
        self._gather()
        if not len(self.keys):
            raise RuntimeError(
                "knn has remembered no clip yet; call partial_fit(tokens, targets) with training clips first"
            )
        query = self._embed(tokens)
        best = query.new_full((len(query), 0), -torch.inf)
        index = torch.empty(len(query), 0, dtype=torch.int64, device=query.device)
        step = max(1, BLOCK // max(1, len(query)))
        for start in range(0, len(self.keys), step):
            cosine = query @ self.keys[start : start + step].to(query.dtype).T
            near, where = cosine.topk(min(self.k, cosine.shape[1]), 1)
            best, index = torch.cat([best, near], 1), torch.cat([index, where + start], 1)
            best, kept = best.topk(min(self.k, best.shape[1]), 1)
            index = index.gather(1, kept)
        weight = (best / self.temperature).softmax(1)
        share = torch.einsum("bk,bkc->bc", weight, self.labels[index].to(weight.dtype))
        return torch.logit(share, 1e-6)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As every module's, with what `partial_fit` has gathered included."""
        self._gather()
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("keys", "labels"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def macs(self, n_tokens: int) -> int:  # noqa: ARG002
        return self.keys.shape[1]

    @property
    def shipped_bytes(self) -> int:
        return 4 * (self.keys.shape[1] + self.n_classes)
