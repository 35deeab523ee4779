"""Acoustic units: cluster numbers that describe the sound of a recording, computed without labels.

Each segment of up to 2.56 s is described by statistics of its log-mel map (spectral shape, spread, change, envelope,
modulation, harmonic structure). The descriptions are reduced by principal components and clustered by k-means, with
three different numbers of clusters. The cluster numbers are the targets of pretraining; the first iteration of HuBERT
used clusters of MFCCs (Hsu et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA

STRETCH = 256  # frames of 10 ms
GRAINS = (64, 256, 1024)
COMPONENTS = 32
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Units:
    """Stretches of recordings: `recording` and first `frame` of each [W], and its unit at each grain [W, 3]."""

    recording: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]


def stretches(lengths: npt.NDArray[np.int64], sparse: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(recording, first frame) of every stretch; of recordings marked `sparse` (long music) only every second one."""
    found = []
    for recording, (length, thin) in enumerate(zip(lengths, sparse, strict=True)):
        step = 2 * STRETCH if thin else STRETCH
        found += [(recording, at) for at in range(0, max(1, int(length) - STRETCH // 2), step)]
    return found


def describe(mel: Array) -> Array:
    """Statistics of one stretch, log-mel [n, 128] to [159]; levels are relative to its loudest frame."""
    power = np.exp(mel.astype(np.float32))
    loudness = np.log(power.sum(1) + 1e-12)
    top = loudness.max()
    active, onset = loudness > top - 8, int(np.argmax(loudness > top - 5))
    weight = power.sum(1) * active
    weight = weight / weight.sum()
    bands = np.maximum(np.log(power.reshape(len(mel), 32, 4).mean(2) + 1e-12) - top, -14)
    mean, audible = weight @ bands, bands[active]
    change = np.abs(np.diff(audible, axis=0)).mean(0) if len(audible) > 1 else np.zeros(32)
    envelope = np.full(128, -14.0)
    tail = np.maximum(loudness[onset : onset + 128] - top, -14)
    envelope[: len(tail)] = tail
    modulation = np.abs(np.fft.rfft(np.where(active, loudness - top + 8, 0), 256))[1:33].reshape(8, 4).mean(1)
    fine = weight @ np.maximum(mel - top, -16)
    fine = fine - np.convolve(np.pad(fine, 8, "edge"), np.ones(17) / 17, "valid")
    cepstrum = np.abs(np.fft.rfft(fine))[3:43].reshape(20, 2).mean(1)
    parts = [
        mean - mean.mean(),
        audible.mean(0) - audible.mean(),
        audible.std(0),
        change,
        envelope.reshape(16, 8).mean(1),
    ]
    parts += [
        np.log(modulation + 1e-3),
        np.log(cepstrum + 0.1),
        [fine.std(), np.log(active.sum()), np.log(onset + 5.0)],
    ]
    return np.concatenate(parts).astype(np.float32)


def find_units(
    mel: Array, start: npt.NDArray[np.int64], length: npt.NDArray[np.int64], sparse: npt.NDArray[np.bool_]
) -> Units:
    """Describe and cluster every stretch of the recordings mel[start : start + length]."""
    where = stretches(length, sparse)
    described = np.stack([describe(mel[start[r] + at : start[r] + min(at + STRETCH, length[r])]) for r, at in where])
    standard = (described - described.mean(0)) / (described.std(0) + 1e-6)
    pca = PCA(COMPONENTS, random_state=0).fit(standard)
    compressed = pca.transform(standard) / pca.explained_variance_**0.25  # halfway to whitening
    unit = [MiniBatchKMeans(k, random_state=0, n_init=3, batch_size=4096).fit_predict(compressed) for k in GRAINS]
    recording, frame = np.array(where).T
    return Units(recording, frame, np.stack(unit, 1).astype(np.int64))
