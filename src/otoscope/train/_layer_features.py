"""Features of single layers, kept for later fits on the same split.

A probe that reads several layers side by side concatenates the features that it has for each of them alone. A layer
profile fits both, so the features of each layer are computed once. They are kept as long as the split exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from otoscope.bank import BankSplit
from otoscope.probes import FixedFeatureProbe, LinearHeadProbe
from otoscope.results import Protocol
from otoscope.train.config import TrainingConfig
from otoscope.train.fitted import layers_of
from otoscope.train.standardise import Standardiser

MAX_BYTES = 1024**3
"""Largest size of the features that are kept for one split."""

_FEATURES: WeakKeyDictionary[BankSplit, dict[str, Tensor]] = WeakKeyDictionary()


class Kept:
    """The kept features of the layers of a probe, for some clips.

    Parameters
    ----------
    split : the clips.
    module : the probe.
    trial, protocol : configuration and protocol with which it is fitted.
    standardiser : standardises what the probe reads; None for tokens as they are.
    """

    def __init__(
        self,
        split: BankSplit,
        module: LinearHeadProbe,
        trial: TrainingConfig,
        protocol: Protocol,
        standardiser: Standardiser | None,
    ) -> None:
        self._known = _FEATURES.setdefault(split, {})
        self._keys: list[str] = []
        if isinstance(module, FixedFeatureProbe) and protocol.norm in (None, "none"):
            self._keys = _keys(module, trial, protocol, standardiser)

    def recall(self) -> Tensor | None:
        """The features of the probe, float32 [n, W], if those of each of its layers are known; otherwise None."""
        if not self._keys or any(key not in self._known for key in self._keys):
            return None
        return torch.cat([self._known[key] for key in self._keys], 1)

    def keep(self, features: Tensor) -> None:
        """Keep the features [n, W] of a probe that reads a single layer, unless they need too much memory."""
        if len(self._keys) == 1 and sum(t.nbytes for t in [features, *self._known.values()]) <= MAX_BYTES:
            self._known[self._keys[0]] = features


def _keys(
    module: FixedFeatureProbe, trial: TrainingConfig, protocol: Protocol, standardiser: Standardiser | None
) -> list[str]:
    """What decides the features of each layer, as text."""
    settings = [protocol.probe, dict(protocol.options), asdict(replace(trial, layers=None))]
    keys = []
    for i, layer in enumerate(layers_of(trial)):
        statistics = [] if standardiser is None else [tensor[i] for tensor in standardiser.state().values()]
        digest = _digest([module.layer_state(i), *statistics])
        keys.append(json.dumps([*settings, layer, digest], default=str))
    return keys


def _digest(tensors: Iterable[Tensor | None]) -> str:
    """A digest of tensors; None stands for no tensor."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(b"" if tensor is None else tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
