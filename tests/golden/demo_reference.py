"""The scores that each probe of the small demo gave when the encoder's weights were shipped.

`demo_small.npz` stores one array per probe, float32 [clips, classes], for the first clips of the test split. After a
change that is meant to alter the results, write it again:

    otoscope demo --small --no-control --out FOLDER
    python tests/golden/demo_reference.py FOLDER/results
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from otoscope.results import Store

Scores = npt.NDArray[np.float32]
PROBES = ("linear", "mean", "stats", "mhca", "protobin", "fixedproto")
CLIPS = 12
PATH = Path(__file__).with_name("demo_small.npz")


def scores_of(store: Store) -> dict[str, Scores]:
    """Scores of the first `CLIPS` test clips, in the order of their ids.

    Parameters
    ----------
    store : Store. The results of `otoscope demo --small --no-control`.

    Returns
    -------
    dict of float32 [CLIPS, classes]. One array per probe.
    """
    scores = {}
    for record in store:
        predictions = store.predictions(record)
        if record.probe in PROBES and predictions is not None:
            order = np.argsort(predictions.ids)[:CLIPS]
            scores[record.probe] = predictions.scores[order].astype(np.float32)
    return scores


def read() -> dict[str, Scores]:
    """Read the stored reference."""
    with np.load(PATH) as arrays:
        return {name: arrays[name] for name in arrays.files}


def distances(scores: Mapping[str, Scores], reference: Mapping[str, Scores]) -> dict[str, float]:
    """Root mean square difference of the scores of each probe from its reference, in standard deviations of the latter.

    Parameters
    ----------
    scores, reference : mapping of float32 [clips, classes]. One array per probe.

    Returns
    -------
    dict of float. One distance per probe of the reference, a share of the standard deviation of its scores.
    """
    return {
        name: float(np.sqrt(np.square(scores[name] - expected).mean()) / expected.std())
        for name, expected in reference.items()
    }


if __name__ == "__main__":
    np.savez_compressed(PATH, **scores_of(Store(sys.argv[1])))
