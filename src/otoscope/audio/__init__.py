"""Audio: decoding of files (`decode`), resampling (`resample`), mel filters (`fbank`)."""

import numpy as np
import numpy.typing as npt

Wave = npt.NDArray[np.float32]
"""Mono samples, float32 [S]."""
