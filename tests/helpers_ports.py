"""Small versions of named encoders, for tests on the CPU."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from otoscope.encoders.catalog import Ported
from otoscope.types import AudioBatch, Tokens

ONE_OF_EACH_KIND = [
    *("asit", "ast", "atst-frame", "bat", "beats-iter3", "bird-mae-base", "birdcode", "ced-mini", "dasheng-base"),
    *("eat", "fpasst", "m2d", "matpac", "openbeats-base", "passt", "perch2", "ssast", "wavjepa"),
]
"""A named encoder for each architecture and front end."""


def small(cls: type[Ported], **sizes) -> type[Ported]:
    """A subclass with other sizes in its config, of the same name and revision, which is not registered.

    Parameters
    ----------
    cls : a model with the class attribute `config`, a dataclass.
    sizes : fields of the config.
    """
    attributes = {"config": replace(cls.config, **sizes), "revision": 1, "__module__": cls.__module__}
    return type(f"Small{cls.__name__}", (cls,), attributes)


def noise(samples: int, seed: int = 7, level: float = 0.1) -> NDArray[np.float32]:
    """White noise with this standard deviation."""
    return (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def encode(encoder: Ported, *waves: NDArray[np.float32]) -> Tokens:
    """The tokens of clips, in one batch."""
    return encoder.encode(AudioBatch.of(list(waves), encoder.sample_rate))
