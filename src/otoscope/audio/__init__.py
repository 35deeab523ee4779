"""Audio: decoding (`decode`), resampling (`resample`), Kaldi filter banks (`fbank`), mel spectrograms (`mel`)."""

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float32]
"""Mono samples, float32 [S]."""
