"""What is declared about a named encoder: where its weights come from, and what it was trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file from which the weights can be downloaded.

    Parameters
    ----------
    url : its address.
    size : number of bytes; None where it is not known.
    sha256 : the SHA-256 sum of the file; "" where none is published.
    """

    url: str
    size: int | None = None
    sha256: str = ""

    @property
    def name(self) -> str:
        """The name of the file.

        >>> Source(url="https://zenodo.org/records/1/files/base.pt?download=1").name
        'base.pt'
        """
        return self.url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is declared about a named encoder.

    Parameters
    ----------
    about : the encoder in one sentence.
    homepage : where it is described.
    licence : licence of the weights.
    citation : the publication.
    sources : files with the weights, the preferred one first; the others are mirrors.
    tensors : `otoscope.encoders.weights_digest` of the converted weights; "" where it is not on record.
    parameters : number of parameters of the encoder in millions.
    pretrained_on : corpora of the pretraining, such as "AudioSet".
    supervised : whether labels or transcripts were used.
    manual : whether the licence must be read and accepted on the page of the authors, so that nothing is downloaded.
    instructions : what to do where nothing can be downloaded.
    unverified : facts in this card that were not verified against the source, each one sentence.
    """

    about: str
    homepage: str
    licence: str
    citation: str
    sources: tuple[Source, ...]
    parameters: float
    pretrained_on: tuple[str, ...]
    tensors: str = ""
    supervised: bool = False
    manual: bool = False
    instructions: str = ""
    unverified: tuple[str, ...] = ()

    @property
    def short_licence(self) -> str:
        """The name of the licence, without explanations in parentheses or after a semicolon."""
        return re.split("[;(]", self.licence)[0].strip()
