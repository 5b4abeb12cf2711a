"""Figures of features, models and results, readable in print and by the colour-blind.

Each function draws into the given axes or into a new figure, and returns the figure;
none of them changes matplotlib's settings. No figure relies on colour alone: groups
also differ in marker or line style, and every colour map goes from dark to light.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
