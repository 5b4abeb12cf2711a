"""Emotion corpora for MOABB: one that is downloaded, others that users hold."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
