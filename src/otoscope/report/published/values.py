"""Values that papers print for probes of frozen encoders and for fine-tuning.

The values ship with the package in `published.csv`, without per-clip predictions.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class PublishedValue:
    """A value that a paper prints.

    Parameters
    ----------
    paper : short name of the paper and its reference.
    encoder, probe, dataset : names as the paper prints them.
    metric : name of the metric.
    value : a fraction.
    """

    paper: str
    encoder: str
    probe: str
    dataset: str
    metric: str
    value: float


def _simplify(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


_ALIASES = {
    _simplify(alias): _simplify(name)
    for name, aliases in {
        "A-MAE": ("Audio-MAE", "gaunernst/vit_base_patch16_1024_128.audiomae_as2m"),
        "BEATs": ("beats-iter3",),
        "BEATs+": ("beats-iter3-plus-as2m",),
        "EAT": ("EAT-base", "worstchan/EAT-base_epoch30_pretrain"),
        "EAT+": ("eat-as2m",),
        "SSLAM": ("ta012/SSLAM_pretrain",),
        "SSLAM+": ("sslam-as2m",),
        "Dasheng": ("Dasheng-base", "mispeech/dasheng-base"),
        "BAT": ("BAT-vit-b16", "lrauch/BAT-vit-b16-pretrainedAS2M"),
        "as20k": ("audioset-20k", "audioset20k-balanced"),
        "as2m": ("audioset-2m", "audioset"),
        "sc2": ("speech-commands-v2", "speech-commands"),
        "hsn": ("birdset-hsn",),
    }.items()
    for alias in aliases
}


def canonical(name: str) -> str:
    """Return the form in which names of encoders, data sets and probes are compared.

    Capitals, hyphens, underscores and spaces are ignored; aliases and hub ids are resolved. A name with an option, such
    as "EAT-random", and a name with "+" (fine-tuned on AudioSet) denote other encoders.

    Parameters
    ----------
    name : a name as a user or a paper writes it.

    Examples
    --------
    >>> canonical("Audio-MAE") == canonical("A-MAE"), canonical("urban_sed") == canonical("urban-sed")
    (True, True)
    >>> canonical("EAT-random") == canonical("EAT"), canonical("EAT+") == canonical("EAT")
    (False, False)
    """
    simplified = _simplify(name)
    return _ALIASES.get(simplified, simplified)


@cache
def published_values() -> tuple[PublishedValue, ...]:
    """Return every published value that ships with the package, in the order of the file.

    Examples
    --------
    >>> next(v.value for v in published_values() if (v.encoder, v.probe, v.dataset) == ("A-MAE", "linear", "as20k"))
    0.0836
    """
    text = resources.files(__package__).joinpath("published.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(text.splitlines())
    return tuple(PublishedValue(value=round(float(line.pop("value")) / 100, 6), **line) for line in lines)
