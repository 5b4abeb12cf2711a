"""Features of emotional EEG, one definition for numpy and for torch.

From the signal of a trial to what a classifier is given: :func:`differential_entropy`
and :func:`band_power`, smoothing over the windows of a trial, asymmetry of electrode
pairs, scaling by subject, and a cache on disk.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
