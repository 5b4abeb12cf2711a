"""Self-supervised EEG emotion recognition for MOABB and braindecode.

MOABB and braindecode find the corpora, the paradigm and the models, whether they are
imported before the package or after it.
"""

from importlib.metadata import version

import lazy_loader

from braindecode_emossl.registration import register

# __init__.pyi lists the public names.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("braindecode-emossl")

register()
