"""The frequency bands in which EEG emotion studies describe a signal."""

from __future__ import annotations

__all__ = ["BANDS"]

#: Name of each band and its edges in Hz, as the makers of SEED cut them [1]_.
#:
#: References
#: ----------
#: .. [1] Zheng, W.-L., & Lu, B.-L. (2015). Investigating critical frequency bands
#:    and channels for EEG-based emotion recognition with deep neural networks.
#:    IEEE Transactions on Autonomous Mental Development, 7(3), 162-175.
#:    https://doi.org/10.1109/TAMD.2015.2431497
BANDS: dict[str, tuple[float, float]] = {
    "delta": (1.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 14.0),
    "beta": (14.0, 31.0),
    "gamma": (31.0, 50.0),
}
