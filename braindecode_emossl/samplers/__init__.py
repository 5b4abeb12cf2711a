"""Samplers that use the metadata of windows, such as subject, stimulus and trial."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
