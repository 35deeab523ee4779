"""The registry of encoders, which also knows the names of those that are stored elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from otoscope.encoders import _names
from otoscope.registry import Registry, UnknownNameError, closest

if TYPE_CHECKING:
    from otoscope.encoders.base import Encoder


class EncoderRegistry(Registry["Encoder"]):
    """The registered encoders, also by a name with a text after a colon, such as "hf:openai/whisper-tiny".

    Each encoder has the option `autocast` besides its own (`Encoder.autocast`).
    """

    def get(self, name: str) -> type[Encoder]:
        """As `Registry.get`; the message also says how encoders that are stored elsewhere are named."""
        try:
            return super().get(name)
        except UnknownNameError as error:
            kind, colon, text = name.partition(":")
            if not colon:
                hint = f"; a repository or folder of transformers is written hf:{name}" if "/" in name else ""
                raise UnknownNameError(f"{error}{hint}") from None
            written = [known for known, cls in self._classes.items() if cls.written]
            close = closest(kind, written)
            hint = f"; did you mean '{close}:{text}'?" if close else ";"
            message = f"unknown kind of encoder {kind!r} in {name!r}{hint} known: {', '.join(sorted(written))}"
            raise UnknownNameError(message) from None

    def check_options(self, name: str, options: Iterable[str]) -> None:
        """As `Registry.check_options`; `autocast` is an option of every encoder."""
        super().check_options(name, [option for option in options if option != "autocast"])

    def create(self, name: str, *args: Any, autocast: str | None = None, **options: Any) -> Encoder:
        """As `Registry.create`, also for a name with a text after a colon; `autocast` sets `Encoder.autocast`.

        Weights that the constructor draws without a seed of its own are the same in every call.

        Raises
        ------
        ValueError : also when weights are not finite.
        """
        name, options = self.locate(name, options)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = super().create(name, *args, **options)
        bad = [key for key, value in encoder.named_parameters() if not bool(value.isfinite().all())]
        if bad:
            raise ValueError(
                f"encoder {name!r}: {len(bad)} weights are not finite, such as {bad[0]}; the checkpoint is damaged"
            )
        encoder.autocast = autocast
        return encoder

    def locate(self, name: str, options: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Replace the text after the colon of a name by the options that it gives.

        Parameters
        ----------
        name : a registered name, or one with a text, such as "hf:openai/whisper-tiny@<commit>" or "py:mine.py:Mine".
        options : other options.

        Returns
        -------
        name : the registered name; a name that is not known is not changed.
        options : the options.

        Raises
        ------
        ValueError : when the encoder has no text after a colon, or an option is given twice.

        Examples
        --------
        >>> from otoscope import encoders
        >>> encoders.locate("whisper:whisper-tiny.en", {"pool": 4})
        ('whisper', {'pool': 4, 'path': 'whisper-tiny.en'})
        """
        given = dict(options or {})
        kind, colon, text = name.partition(":")
        if not colon or name in self.names() or kind not in self.names():
            return name, given
        parsed = _names.options_of_text(kind, self.get(kind).written, text)
        if twice := parsed.keys() & given.keys():
            raise ValueError(f"encoder {name!r}: its name gives the option {min(twice)!r} already; omit the option")
        return kind, given | parsed

    def label(self, name: str, options: Mapping[str, Any] | None = None) -> str:
        """Compute the label of an encoder in results: its name, or that of its folder or file, and its options.

        Parameters
        ----------
        name, options : as in `locate`.

        Returns
        -------
        The label. Options that only say where weights are stored are not part of it.

        Examples
        --------
        >>> from otoscope import encoders
        >>> encoders.label("tiny", {"weights": "random"})
        'tiny-random'
        >>> encoders.label("whisper:/models/whisper-tiny.en", {"pool": 4})
        'whisper-tiny.en-pool=4'
        """
        name, given = self.locate(name, options)
        if name not in self.names():
            return _names.label_of(name, "", given)
        cls = self.get(name)
        hidden = {*cls.provenance} - {*_names.written_options(cls.written)}
        shown = {option: value for option, value in given.items() if option not in hidden}
        return _names.label_of(name, cls.written, shown)
