"""Checks of the values of a manifest, which may be damaged or come from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otoscope.bank._split_names import check_split_names
from otoscope.bank.identity import CONTENTS, DTYPES

_MAX_SHARDS = 10_000_000


def check_manifest(stored: Mapping[str, Any]) -> None:
    """Check the values of a manifest before anything is computed from them.

    Parameters
    ----------
    stored : mapping. The JSON of the manifest.

    Raises
    ------
    ValueError, KeyError, TypeError : for a value that no bank has.
    """
    identity, clips = stored["identity"], stored["clips"]
    check_split_names(identity["splits"])
    if sorted(clips) != sorted(identity["splits"]):
        raise ValueError(f"it counts the clips of {sorted(clips)}, but has the splits {sorted(identity['splits'])}")
    if identity["dtype"] not in DTYPES or identity["content"] not in CONTENTS:
        raise ValueError(f"dtype {identity['dtype']!r} and content {identity['content']!r} are not known")
    shape = identity["shape"]
    counts = {f"clips of {split}": count for split, count in clips.items()}
    counts |= {name: shape[name] for name in ("layers", "freq", "dim")} | {"shard_clips": identity["shard_clips"]}
    for name, count in counts.items():
        if type(count) is not int or not 1 <= count < 1 << 40:
            raise ValueError(f"{name} must be a whole number above 0, found {count!r}")
    if type(shape["has_cls"]) is not bool or not 0 < float(shape["frame_rate"]) < float("inf"):
        raise ValueError(f"the shape {shape} is not valid")
    if len(identity["layers"]) != shape["layers"] or any(type(i) is not int or i < 0 for i in identity["layers"]):
        raise ValueError(f"layers {identity['layers']} are not {shape['layers']} indices")
    if sum(clips.values()) // identity["shard_clips"] > _MAX_SHARDS:
        raise ValueError(f"it needs more than {_MAX_SHARDS:,} shards")
