"""Texts that say how to get the weights of a named encoder onto this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from otoscope.encoders.catalog._card import Card, Source
from otoscope.encoders.catalog._checkpoint import converted_file


def missing_weights(name: str, card: Card) -> str:
    """Write the message for weights that are not in the models folder.

    Parameters
    ----------
    name : registered name of the encoder.
    card : its card.

    Returns
    -------
    A sentence that says where the weights are expected, which command gets them, and under which licence.
    """
    hosts = dict.fromkeys(urlsplit(source.url).netloc for source in card.sources)
    can_download = hosts and not card.manual
    where = f"downloads them from {' or '.join(hosts)}" if can_download else "says where they come from"
    return (
        f"the weights of encoder {name!r} are not in {converted_file(name)}; `otoscope encoders get {name}` {where} "
        f"(licence {card.short_licence}), or give the option file=CHECKPOINT"
    )


def manual_steps(name: str, card: Card) -> str:
    """Write what to do by hand where nothing can be downloaded.

    Parameters
    ----------
    name : registered name of the encoder.
    card : its card.

    Returns
    -------
    Sentences that say which file to get, and which command puts it in its place.
    """
    files = [f"- {source.url}{_about_file(source)}" for source in card.sources]
    lines = ["Files with the weights:", *files] if files else [f"See {card.homepage}."]
    lines += [card.instructions] if card.instructions else []
    lines.append(
        f"`otoscope encoders convert FILE --encoder {name}` then writes {converted_file(name)}, where the encoder is "
        "found by its name. Or use the file where it is, with --encoder-option file=FILE."
    )
    return "\n".join(lines)


def _about_file(source: Source) -> str:
    """Size and checksum of a file, as far as they are published.

    >>> _about_file(Source(url="https://a.org/b.pt", size=361_499_833))
    ' (361 MB)'
    """
    parts = [f"{source.size / 1e6:.0f} MB"] if source.size else []
    parts += [f"SHA-256 {source.sha256}"] if source.sha256 else []
    return f" ({', '.join(parts)})" if parts else ""
