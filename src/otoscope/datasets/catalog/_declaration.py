"""What is declared about a named data set: where it comes from, what it contains, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from otoscope.types import HELD_OUT


@dataclass(frozen=True)
class Download:
    """A file that can be downloaded.

    Parameters
    ----------
    url : its address.
    md5 : its MD5 sum; "" where none is published.
    into : folder below the data folder into which it is put; "" for the data folder itself.
    unpacked : whether its content, a .zip or .tar.gz, is needed in place of the file.
    """

    url: str
    md5: str = ""
    into: str = ""
    unpacked: bool = True

    @property
    def name(self) -> str:
        """The name of the file.

        >>> Download("https://zenodo.org/record/1/files/a.zip?download=1").name
        'a.zip'
        """
        return self.url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is declared about a named data set.

    Parameters
    ----------
    folders : names that its folder has in the data folder, the official one first.
    markers : files or folders in it, relative to it; a folder that has one of them is recognised.
    layout : the files that are needed, relative to the folder, with what they contain.
    homepage : where it is described and distributed.
    licence : its licence.
    citation : the publication.
    clips : published number of clips by split, or {"all": number} for data sets with folds.
    manifests : digest of the ids, folds and labels of each of these splits (`otoscope.datasets.sources.manifests`),
        computed from the official tables; splits whose tables could not be had are left out.
    size : size of the download, as text.
    rates : published sampling rates in Hz; empty where they vary.
    seconds : published shortest and longest duration in seconds; None where they vary.
    origins : corpora that contain its audio, such as "AudioSet" or "Freesound".
    faults : known faults, each one sentence.
    unverified : facts in this declaration that were not verified against the source, each one sentence.
    downloads : files that may be downloaded; empty where the licence or the source requires something else.
    instructions : what to do where nothing can be downloaded.
    """

    folders: tuple[str, ...]
    markers: tuple[str, ...]
    layout: Mapping[str, str]
    homepage: str
    licence: str
    citation: str
    clips: Mapping[str, int]
    manifests: Mapping[str, str] = field(default_factory=dict)
    size: str = ""
    rates: tuple[int, ...] = ()
    seconds: tuple[float, float] | None = None
    origins: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    instructions: str = ""

    @property
    def not_verified(self) -> tuple[str, ...]:
        """`unverified`, and a sentence about splits without a manifest."""
        missing = [split for split in self.clips if split not in self.manifests]
        return (*self.unverified, *([f"The ids and labels of the clips ({', '.join(missing)})."] if missing else []))

    @property
    def held_out_clips(self) -> int | None:
        """The published number of held-out clips; None for a data set with folds."""
        return self.clips.get(HELD_OUT)

    @property
    def needed(self) -> str:
        """The files that are needed, in one line."""
        return ", ".join(f"{self.folders[0]}/{path}" for path in self.layout)
