"""Head model of the replicas: cortical sources in a sphere, and the electrodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import mne
import numpy as np

from braindecode_emossl.datasets.signals import template_positions

__all__ = ["BANDS", "REGIONS", "SOURCES", "Head", "draw_lead_field", "make_pattern"]

# Bands whose power an emotion changes, in Hz.
BANDS = {
    "delta": (0.0, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 14.0),
    "beta": (14.0, 31.0),
    "gamma": (31.0, np.inf),
}

# A source lies beneath each of these sites of the 10-10 system. The power of the
# sources of a region rises and falls together.
REGIONS = {
    "prefrontal": "Fp1 Fpz Fp2 AF7 AF3 AF4 AF8".split(),
    "left frontal": "F7 F5 F3 F1 FC5 FC3".split(),
    "right frontal": "F8 F6 F4 F2 FC6 FC4".split(),
    "midline": "AFz Fz FC1 FCz FC2 Cz".split(),
    "left temporal": "FT7 T7 TP7 C5 CP5".split(),
    "right temporal": "FT8 T8 TP8 C6 CP6".split(),
    "central": "C3 C1 C2 C4 CP3 CP1 CPz CP2 CP4".split(),
    "parietal": "P7 P5 P3 P1 Pz P2 P4 P6 P8".split(),
    "occipital": "PO7 PO3 POz PO4 PO8 O1 Oz O2".split(),
}
# Number of the region of each source.
SOURCES = np.repeat(np.arange(len(REGIONS)), [len(r) for r in REGIONS.values()])

# Conductivities of skulls, in S/m; brain and scalp have 0.33 S/m.
_SKULLS = (0.004, 0.006, 0.01)
_DEPTH = 0.75  # of the sources, as a share of the radius of the head
_EYES = 0.8 * np.array([0.0, 0.99, -0.16])  # where a blink has its dipole


@dataclass(frozen=True)
class Head:
    """Electrodes of a corpus on a sphere, and the directions of the sources."""

    info: mne.Info
    center: np.ndarray
    radius: float
    directions: np.ndarray  # (n_sources, 3)

    @classmethod
    def of(cls, ch_names: Sequence[str], positions: Mapping[str, str]) -> Head:
        """Return the head of these channels; see `template_positions`."""
        return _make_head(tuple(ch_names), tuple(positions.items()))

    def make_sphere(self, skull: float) -> mne.bem.ConductorModel:
        """Return MNE's sphere model with a skull of this conductivity, in S/m."""
        sigmas = (0.33, 1.0, skull, 0.33)
        return mne.make_sphere_model(
            "auto", "auto", self.info, sigmas=sigmas, verbose="error"
        )


@cache
def _make_head(ch_names, positions):
    places = template_positions(ch_names, dict(positions))
    info = mne.create_info(list(ch_names), 200.0, "eeg", verbose="error")
    info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    radius, center, _ = mne.bem.fit_sphere_to_headshape(
        info, dig_kinds="eeg", units="m", verbose="error"
    )
    sites = [site for names in REGIONS.values() for site in names]
    places = template_positions(sites, {})
    directions = np.array([places[site] for site in sites]) - center
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Head(info, center, radius, directions)


def draw_lead_field(head: Head, spread: float, rng: np.random.Generator):
    """Return a subject's lead fields of the sources (n_chans, n_sources) and a blink.

    ``spread`` scales how much positions and orientations of the sources differ
    between subjects; without it, skulls do not differ either. The reference is the
    average. Sources of unit variance give channels of unit variance on average, and
    the blink (n_chans,) is 1 where it is largest.
    """
    skull = rng.choice(_SKULLS) if spread else _SKULLS[1]
    shape = head.directions.shape
    places = head.directions + rng.normal(0, 0.12 * spread, shape)
    places *= _DEPTH / np.linalg.norm(places, axis=1, keepdims=True)
    # Most of the cortex near an electrode points at it; its folds do not.
    folds = np.random.default_rng(0).normal(0, 0.5, shape)
    orientations = head.directions + folds + rng.normal(0, 0.75 * spread, shape)
    field = _make_forward(
        head, skull, np.vstack([places, _EYES]), np.vstack([orientations, _EYES])
    )
    field -= field.mean(axis=0)
    field, blink = field[:, :-1], field[:, -1]
    return field / np.sqrt((field**2).sum(axis=1).mean()), blink / np.abs(blink).max()


def _make_forward(head, skull, places, orientations):
    """Return the potentials of dipoles (n_chans, n_dipoles)."""
    n_dipoles = len(places)
    dipoles = mne.Dipole(
        times=np.zeros(n_dipoles),
        pos=head.center + head.radius * places,
        amplitude=np.full(n_dipoles, 1e-8),
        ori=orientations / np.linalg.norm(orientations, axis=1, keepdims=True),
        gof=np.full(n_dipoles, 100.0),
        verbose="error",
    )
    forward, _ = mne.make_forward_dipole(
        dipoles, head.make_sphere(skull), head.info, verbose="error"
    )
    return forward["sol"]["data"]


def make_pattern(effects: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """Return an array (n_regions, n_bands) of values by region and band."""
    pattern = np.zeros((len(REGIONS), len(BANDS)))
    regions, bands = list(REGIONS), list(BANDS)
    for region, values in effects.items():
        for band, value in values.items():
            pattern[regions.index(region), bands.index(band)] = value
    return pattern
