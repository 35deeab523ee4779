"""Which encoders were pretrained on the audio of which data sets: such a score says less about other recordings."""

from __future__ import annotations

from collections.abc import Iterable

from otoscope import datasets, encoders
from otoscope.datasets.catalog import NamedDataset
from otoscope.encoders.catalog import Ported
from otoscope.report.rows import Row


def known_audio(encoder: str, dataset: str) -> tuple[str, ...]:
    """Return the corpora that an encoder was pretrained on and that contain clips of a data set.

    Parameters
    ----------
    encoder, dataset : registered names. The card of the encoder and the declaration of the data set name the corpora.

    Returns
    -------
    Names of corpora; empty where none is known, as for encoders without a card.

    Examples
    --------
    >>> known_audio("beats-iter3", "as20k"), known_audio("beats-iter3", "esc50"), known_audio("tiny", "as20k")
    (('AudioSet',), (), ())
    """
    if encoder not in encoders.names() or dataset not in datasets.names():
        return ()
    encoder_class, dataset_class = encoders.registry.get(encoder), datasets.registry.get(dataset)
    corpora = encoder_class.card.pretrained_on if issubclass(encoder_class, Ported) else ()
    origins = dataset_class.declaration.origins if issubclass(dataset_class, NamedDataset) else ()
    return tuple(corpus for corpus in corpora if corpus in origins)


def contamination_notes(rows: Iterable[Row]) -> list[str]:
    """Write a sentence for each encoder and data set whose audio the encoder may know from its pretraining.

    Parameters
    ----------
    rows : rows of results.
    """
    records = [(row.encoder, row.records[0]) for row in rows if not row.control]
    pairs = dict.fromkeys((label, first.encoder_name or first.encoder, first.dataset) for label, first in records)
    return [
        f"{label} on {dataset}: the encoder was pretrained on {' and '.join(corpora)}, which contains clips of this "
        "data set"
        for label, encoder, dataset in pairs
        if (corpora := known_audio(encoder, dataset))
    ]
