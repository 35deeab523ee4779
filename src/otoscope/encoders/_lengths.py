"""Clips of several lengths: padding, groups of equal length, windows, and averages of neighbouring tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from otoscope.types import AudioBatch, Tokens

Maps = tuple[Tensor, Tensor | None]
"""Tokens float [B, L, T, F, D] of clips of one length, and their cls tokens float [B, L, D] or None."""


def without_padding(batch: AudioBatch) -> Tensor:
    """Return the waveforms of a batch, float [B, S], with zeros after the end of each clip."""
    inside = torch.arange(batch.waves.shape[1], device=batch.waves.device) < batch.lengths[:, None]
    return batch.waves * inside


def whole_windows(batch: AudioBatch, window: int) -> Tensor:
    """Pad the waveforms of a batch to a whole number of windows.

    Parameters
    ----------
    batch : waveforms.
    window : length of a window in samples.

    Returns
    -------
    float [B, windows * window], with zeros after the end of each clip.

    Examples
    --------
    >>> whole_windows(AudioBatch(torch.ones(1, 3), torch.tensor([2]), 16000), 2)
    tensor([[1., 1., 0., 0.]])
    """
    return functional.pad(without_padding(batch), (0, -batch.waves.shape[1] % window))


def by_length(x: Tensor, lengths: Tensor, compute: Callable[[Tensor], Maps]) -> Tokens:
    """Compute the tokens of clips so that they do not depend on padding: each length is computed by itself.

    Parameters
    ----------
    x : float [B, frames, bins]. Padded features.
    lengths : int64 [B]. Number of valid frames.
    compute : maps features of clips of one length to their token maps.

    Returns
    -------
    Tokens, padded with zeros to the longest map.
    """
    rows = [(lengths == length).nonzero().flatten() for length in sorted(set(lengths.tolist()))]
    maps = [compute(x[row, : int(lengths[row[0]])]) for row in rows]
    if len(rows) == 1:
        return Tokens(maps[0][0], None, maps[0][1])
    steps = max(tokens.shape[2] for tokens, _ in maps)
    order = torch.cat(rows).argsort()
    padded = torch.cat([functional.pad(tokens, (0, 0, 0, 0, 0, steps - tokens.shape[2])) for tokens, _ in maps])[order]
    counts = torch.cat([torch.full_like(row, tokens.shape[2]) for row, (tokens, _) in zip(rows, maps, strict=True)])
    mask = torch.arange(steps, device=x.device) < counts[order][:, None]
    return Tokens(padded, mask, _together([cls for _, cls in maps], order))


def select_layers(maps: Maps, layers: Sequence[int], count: int) -> Maps:
    """Keep some layers of token maps, in this order.

    Parameters
    ----------
    maps : tokens float [B, L, T, F, D] and cls tokens float [B, L, D] or None.
    layers : indices of layers.
    count : number of layers L.
    """
    if tuple(layers) == tuple(range(count)):
        return maps
    x, cls = maps
    return x[:, list(layers)], None if cls is None else cls[:, list(layers)]


def _together(parts: Sequence[Tensor | None], order: Tensor) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present)[order] if present else None


def window_starts(samples: int, window: int, hop: int) -> range:
    """Return the starts of the windows that cover a clip; the last one may reach beyond its end.

    Parameters
    ----------
    samples : length of the clip.
    window, hop : length of a window, and distance from one to the next.

    Examples
    --------
    >>> list(window_starts(25, 10, 10)), list(window_starts(7, 10, 10))
    ([0, 10, 20], [0])
    """
    return range(0, max(1, samples - window + hop), hop)


TOGETHER = 64
"""Windows that a model computes at once. It limits the memory that a long clip needs for all of its layers."""


def computed_in_parts(x: Tensor, frames: Tensor, compute: Callable[[Tensor, Tensor], Maps], most: int) -> Maps:
    """Compute the token maps of windows, a limited number of them at once.

    Parameters
    ----------
    x : float [n, frames, bins]. Features of windows.
    frames : int64 [n]. Their valid frames.
    compute : maps features of windows and their valid frames to token maps.
    most : largest number of windows that are computed at once.
    """
    parts = [compute(x[start : start + most], frames[start : start + most]) for start in range(0, len(x), most)]
    if len(parts) == 1:
        return parts[0]
    cls = [part for _, part in parts if part is not None]
    return torch.cat([part for part, _ in parts]), torch.cat(cls) if cls else None


def joined(
    x: Tensor,
    frames: Tensor,
    length: int,
    count_steps: Callable[[Tensor], Tensor],
    compute: Callable[[Tensor, Tensor], Maps],
    together: int = TOGETHER,
) -> Tokens:
    """Compute the tokens of windows and put them one after the other.

    Parameters
    ----------
    x : float [B, windows * length, bins]. Features, window after window.
    frames : int64 [B]. Number of valid frames, where every window but the last counts as a whole.
    length : number of frames of a window.
    count_steps : maps numbers of frames of a window to numbers of time steps.
    compute : maps features [B, length, bins] and their valid frames to token maps.
    together : windows that are computed at once.

    Returns
    -------
    Tokens. The cls token of a clip is the mean of those of its windows.
    """
    windows = x.unflatten(1, (-1, length))  # type: ignore[no-untyped-call]
    starts = torch.arange(windows.shape[1], device=x.device) * length
    whole = int(count_steps(frames.new_tensor([length])))
    valid = (frames[:, None] - starts).clamp(1, length).flatten()
    maps, cls = computed_in_parts(windows.flatten(0, 1), valid, compute, together)
    maps, cls = join_windows(maps[:, :, :whole], cls, starts < frames[:, None])
    return valid_part(maps, joined_steps(frames, length, count_steps), cls)


def join_windows(x: Tensor, cls: Tensor | None, present: Tensor) -> Maps:
    """Put the tokens of the windows of each clip one after the other.

    Parameters
    ----------
    x : float [B * windows, L, T, F, D]. Tokens of windows.
    cls : float [B * windows, L, D]. Cls tokens of windows, or None.
    present : bool [B, windows]. Whether a window contains a part of the clip.

    Returns
    -------
    x : float [B, L, windows * T, F, D].
    cls : float [B, L, D]. The mean of the cls tokens of the windows that contain a part of the clip.
    """
    x = x.view(*present.shape, *x.shape[1:]).transpose(1, 2).flatten(2, 3)
    if cls is not None:
        weight = present.to(cls)[:, :, None, None]
        cls = (cls.view(*present.shape, *cls.shape[1:]) * weight).sum(1) / weight.sum(1)
    return x, cls


def joined_steps(frames: Tensor, length: int, count_steps: Callable[[Tensor], Tensor]) -> Tensor:
    """Count the time steps of clips of several windows, int64 [B].

    Parameters
    ----------
    frames, length, count_steps : as in `joined`.
    """
    before = (frames - 1) // length
    return before * count_steps(frames.new_tensor([length])) + count_steps(frames - before * length)


def valid_part(x: Tensor, steps: Tensor, cls: Tensor | None) -> Tokens:
    """Cut token maps of one fixed window to the longest clip.

    Parameters
    ----------
    x : float [B, L, T, F, D]. Tokens of the whole window.
    steps : int64 [B]. Number of time steps that belong to the clip.
    cls : float [B, L, D] or None.
    """
    mask = torch.arange(int(steps.max()), device=x.device) < steps[:, None]
    return Tokens(x[:, :, : mask.shape[1]], mask, cls)


def pooled(tokens: Tokens, pool: int) -> Tokens:
    """Average `pool` neighbours in time, valid ones only.

    Parameters
    ----------
    tokens : x float [B, L, T, F, D].
    pool : number of time steps that become one.

    Returns
    -------
    Tokens with ceil(T / pool) time steps.

    Examples
    --------
    >>> pooled(Tokens(torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 3, 1, 1)), 2).x.flatten().tolist()
    [2.0, 5.0]
    """
    if pool == 1:
        return tokens
    B, L, T, F, D = tokens.x.shape
    valid = functional.pad(tokens.mask, (0, -T % pool)).view(B, 1, -1, pool, 1, 1)
    groups = functional.pad(tokens.x, (0, 0, 0, 0, 0, -T % pool)).view(B, L, -1, pool, F, D)
    count = valid.sum(3)
    return Tokens((groups * valid).sum(3) / count.clamp(min=1), count[:, 0, :, 0, 0] > 0, tokens.cls)
