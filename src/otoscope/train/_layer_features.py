"""Features of single layers, kept for later fits on the same split.

A probe that reads several layers side by side concatenates the features that it has for each of them alone. A layer
profile fits both, so the features of each layer are computed once. They are kept as long as the split exists.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from otoscope.bank import BankSplit
from otoscope.probes import FixedFeatureProbe, LinearHeadProbe
from otoscope.results import Protocol
from otoscope.train.config import TrainingConfig
from otoscope.train.fitted import layers_of

MAX_BYTES = 1024**3
"""Largest size of the features that are kept for one split."""

_FEATURES: WeakKeyDictionary[BankSplit, dict[str, Tensor]] = WeakKeyDictionary()


def recall(split: BankSplit, module: LinearHeadProbe, trial: TrainingConfig, protocol: Protocol) -> Tensor | None:
    """The features of a probe, if those of each of its layers are known.

    Parameters
    ----------
    split : the clips.
    module : the probe.
    trial, protocol : configuration and protocol with which it is fitted.

    Returns
    -------
    float32 [n, W], or None.
    """
    known = _FEATURES.get(split, {})
    keys = _keys(module, trial, protocol)
    return torch.cat([known[key] for key in keys], 1) if keys and all(key in known for key in keys) else None


def keep(
    features: Tensor, split: BankSplit, module: LinearHeadProbe, trial: TrainingConfig, protocol: Protocol
) -> None:
    """Keep the features [n, W] of a probe that reads a single layer, unless they need too much memory.

    Parameters
    ----------
    features : the features.
    split, module, trial, protocol : as in `recall`.
    """
    keys, known = _keys(module, trial, protocol), _FEATURES.setdefault(split, {})
    if len(keys) == 1 and sum(t.nbytes for t in [features, *known.values()]) <= MAX_BYTES:
        known[keys[0]] = features


def _keys(module: LinearHeadProbe, trial: TrainingConfig, protocol: Protocol) -> list[str]:
    """What decides the features of each layer, as text; empty for a probe whose features are not kept."""
    if not isinstance(module, FixedFeatureProbe) or protocol.norm not in (None, "none"):
        return []
    settings = [protocol.probe, dict(protocol.options), asdict(replace(trial, layers=None))]
    keys = []
    for i, layer in enumerate(layers_of(trial)):
        state = module.layer_state(i)
        digest = "" if state is None else hashlib.sha256(state.cpu().contiguous().numpy().tobytes()).hexdigest()
        keys.append(json.dumps([*settings, layer, digest], default=str))
    return keys
