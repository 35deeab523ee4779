"""The waveform of a clip at the encoder's sampling rate. No other module decodes, checks or resamples audio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from otoscope.audio.decode import AudioError
from otoscope.audio.resample import resample
from otoscope.types import Clip, Wave


def waveform(clip: Clip, rate: int) -> Wave:
    """Decode a clip, check its samples and resample them.

    Parameters
    ----------
    clip : Clip. The clip; its audio is decoded here.
    rate : int. Sampling rate of the result in Hz.

    Returns
    -------
    float32 [S]. Mono samples at `rate` Hz, at least one, all finite.

    Raises
    ------
    AudioError : when the audio is not mono float32 [S], is empty, or has NaN or infinite samples. The message names the
        clip and its split. A note with both names is added to an error raised by `Clip.load`.

    Examples
    --------
    >>> clip = Clip("a", lambda: np.zeros(44100, np.float32), 44100, ("dog",), (), "train")
    >>> waveform(clip, 16000).shape
    (16000,)
    """
    with naming_clips([clip]):
        wave = clip.audio
    if wave.ndim != 1 or wave.dtype != np.float32:
        fault = f"is {wave.dtype} {list(wave.shape)}, not mono float32 [S]"
    elif not len(wave):
        fault = "is empty"
    elif not np.isfinite(wave).all():
        fault = "has NaN or infinite samples"
    else:
        with naming_clips([clip]):
            return resample(wave, clip.rate, rate)
    raise AudioError(
        f"clip {clip.id!r} of split {clip.split!r}: its audio {fault}; repair the file "
        "or remove the clip from the data set"
    )


@contextmanager
def naming_clips(clips: Sequence[Clip]) -> Iterator[None]:
    """Add a note to any error raised inside the context, naming the clips and their split.

    Parameters
    ----------
    clips : sequence of Clip. Clips of one split, at least one.
    """
    try:
        yield
    except Exception as error:
        error.add_note(f"in split {clips[0].split!r}, clips {', '.join(clip.id for clip in clips)}")
        raise
