"""Which encoders were pretrained on the audio of which data sets: such a score says less about other recordings."""

from __future__ import annotations

from collections.abc import Iterable

from otoscope import datasets
from otoscope.datasets.catalog import NamedDataset
from otoscope.report.rows import Row

PRETRAINED_ON = {
    "asit": ("AudioSet",),
    "audiomae": ("AudioSet",),
    "bat": ("AudioSet",),
    "beats": ("AudioSet",),
    "beats+": ("AudioSet",),
    "dasheng": ("AudioSet",),
    "eat": ("AudioSet",),
    "eat+": ("AudioSet",),
    "sslam": ("AudioSet",),
    "sslam+": ("AudioSet",),
}
"""Corpora on which published encoders were pretrained, by the label of the encoder in the suites. Encoders whose
corpora are not known, such as Whisper, are not listed."""


def known_audio(encoder: str, dataset: str) -> tuple[str, ...]:
    """Return the corpora that an encoder was pretrained on and that contain clips of a data set.

    Parameters
    ----------
    encoder, dataset : labels of the results.

    Returns
    -------
    Names of corpora; empty where none is known.

    Examples
    --------
    >>> known_audio("beats", "as20k"), known_audio("beats", "desed"), known_audio("beats", "esc50")
    (('AudioSet',), ('AudioSet',), ())
    """
    if encoder not in PRETRAINED_ON or dataset not in datasets.names():
        return ()
    cls = datasets.registry.get(dataset)
    origins = cls.declaration.origins if issubclass(cls, NamedDataset) else ()
    return tuple(corpus for corpus in PRETRAINED_ON[encoder] if corpus in origins)


def contamination_notes(rows: Iterable[Row]) -> list[str]:
    """Write a sentence for each encoder and data set whose audio the encoder may know from its pretraining.

    Parameters
    ----------
    rows : rows of results.
    """
    pairs = dict.fromkeys((row.encoder, row.records[0].dataset) for row in rows if not row.control)
    return [
        f"{encoder} on {dataset}: the encoder was pretrained on {' and '.join(corpora)}, which contains clips of this "
        "data set"
        for encoder, dataset in pairs
        if (corpora := known_audio(encoder, dataset))
    ]
