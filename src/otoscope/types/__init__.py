"""The data types of otoscope: clips, tasks, batches of audio and token maps.

Shapes use one set of letters in the whole package: B clips, L layers, T time steps, F frequency bands, D width,
C classes, and N = T * F tokens. A token map is always [B, L, T, F, D]; encoders that give a sequence have F = 1.
"""

from otoscope.audio import Wave
from otoscope.types.clips import HELD_OUT, AudioBatch, Clip, Event, Task
from otoscope.types.tokens import Tokens, TokenShape

__all__ = ["HELD_OUT", "AudioBatch", "Clip", "Event", "Task", "TokenShape", "Tokens", "Wave"]
