# The public names. Each is imported when it is first used.
from .emotion import Emotion as Emotion
