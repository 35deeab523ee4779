"""The waveform of a clip at the encoder's sampling rate. No other module decodes, checks or resamples audio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from otoscope.audio.decode import AudioError, DecodedFile, decoded_files
from otoscope.audio.resample import resample
from otoscope.datasets.audio_report import report_audio
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
    AudioError : when the audio is not mono float32 [S], is empty, has NaN or infinite samples, or is a file of another
        rate than `Clip.rate`. The message names the clip and its split. A note with both names is added to an error
        raised by `Clip.load`.

    Examples
    --------
    >>> clip = Clip("a", lambda: np.zeros(44100, np.float32), 44100, ("dog",), (), "train")
    >>> waveform(clip, 16000).shape
    (16000,)
    """
    wave, files = checked_audio(clip)
    report_audio(clip, wave, files)
    with naming_clips([clip]):
        return resample(wave, _rate(clip, wave, files), rate)


def checked_audio(clip: Clip) -> tuple[Wave, list[DecodedFile]]:
    """Decode a clip and check its samples, without resampling them.

    Parameters
    ----------
    clip : Clip. The clip.

    Returns
    -------
    samples : float32 [S]. Mono samples at the rate of the clip, at least one, all finite.
    files : list of DecodedFile. The files that were decoded by `otoscope.audio.decode.decode`.

    Raises
    ------
    AudioError : as in `waveform`.
    """
    with naming_clips([clip]), decoded_files() as files:
        wave = clip.audio
        rate = _rate(clip, wave, files)
    if not isinstance(wave, np.ndarray) or wave.ndim != 1 or wave.dtype != np.float32:
        kind = f"{wave.dtype} {list(wave.shape)}" if isinstance(wave, np.ndarray) else type(wave).__name__
        fault = f"is {kind}, not mono float32 [S]"
    elif not len(wave):
        fault = "is empty"
    elif not np.isfinite(wave).all():
        fault = "has NaN or infinite samples"
    elif len(files) == 1 and files[0].samples == len(wave) and files[0].rate != rate:
        raise AudioError(
            f"clip {clip.id!r} of split {clip.split!r} declares {rate} Hz, but its file {files[0].name} has "
            f"{files[0].rate} Hz; use Clip.from_file, which takes the rate of the file"
        )
    else:
        return wave, files
    raise AudioError(
        f"clip {clip.id!r} of split {clip.split!r}: its audio {fault}; repair the file "
        "or remove the clip from the data set"
    )


def _rate(clip: Clip, wave: Wave, files: Sequence[DecodedFile]) -> int:
    """The rate of a clip. Where it is that of the file which was just decoded, the file is not opened again."""
    whole = len(files) == 1 and isinstance(wave, np.ndarray) and files[0].samples == len(wave)
    return files[0].rate if whole and callable(vars(clip)["_rate"]) else clip.rate


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
