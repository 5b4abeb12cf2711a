"""Paradigms for MOABB."""

from braindecode_emossl.paradigms.emotion import Emotion

__all__ = ["Emotion"]
