"""Maps over the scalp: the values are read back from the pixels at the electrodes."""

from __future__ import annotations

import re

import matplotlib as mpl
import mne
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from braindecode_emossl.features import BANDS
from braindecode_emossl.visualization import plot_attention, plot_band_topomaps

CHANNELS = (
    "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 "
    "P7 P3 Pz P4 P8 PO3 PO4 O1 Oz O2"
).split()
N_CHANS = len(CHANNELS)
# Electrodes that are not at the rim, where the map may be cut.
INNER = [CHANNELS.index(name) for name in "F3 Fz F4 C3 Cz C4 P3 Pz P4".split()]


@pytest.fixture
def info():
    info = mne.create_info(CHANNELS, 200.0, "eeg")
    return info.set_montage("standard_1020")


def make_features(n_bands=2, seed=0):
    """Return features that rise from left to right and more so from class to class."""
    rng = np.random.default_rng(seed)
    y = np.array(["sad", "happy", "sad", "happy", "happy", "neutral"])
    x = np.linspace(-1, 1, N_CHANS)[None, :, None]
    features = 2 + rng.normal(size=(3, 1, n_bands)) + x
    features = features[np.unique(y, return_inverse=True)[1]]
    return features + 0.1 * rng.normal(size=(6, N_CHANS, n_bands)), y


def read_values(picture, ax):
    """Return the values (n_chans,) that the colours at the electrodes stand for."""
    (image,) = ax.images
    (sensors,) = (c for c in ax.collections if len(c.get_offsets()) == N_CHANS)
    colors = mpl.colormaps["cividis"](np.linspace(0, 1, 512))[:, :3]
    values = []
    for x, y in sensors.get_offsets():
        # Some pixels are of the electrode's dot or of a contour line.
        pixels = picture.look(ax, x, y, radius=3)
        distances = np.abs(pixels[:, None] - colors).sum(axis=2)
        best = distances.argmin(axis=1)[distances.min(axis=1) < 0.05]
        values.append(np.median(best) / 511)
    low, high = image.get_clim()
    return low + np.array(values) * (high - low)


def means_of(features, y):
    return np.stack([features[y == name].mean(axis=0) for name in np.unique(y)])


# -- differential entropy ------------------------------------------------------


def test_pixels_show_the_mean_of_class_and_band(info, draw):
    features, y = make_features()
    figure = plot_band_topomaps(features, y, info, bands=["alpha", "beta"])
    figure.set_dpi(200)
    picture = draw(figure)
    means = means_of(features, y)
    panels = np.array(figure.axes[:6]).reshape(3, 2)
    for (row, column), ax in np.ndenumerate(panels):
        read = read_values(picture, ax)[INNER]
        expected = means[row, INNER, column]
        np.testing.assert_allclose(read, expected, atol=0.06 * np.ptp(means))


def test_hot_electrode_is_the_warmest_place(info, draw):
    features = np.zeros((4, N_CHANS, 2))
    y = np.repeat(["negative", "positive"], 2)
    features[2:, CHANNELS.index("C3"), 1] = 1.0
    figure = plot_band_topomaps(features, y, info, bands=["alpha", "gamma"])
    picture = draw(figure)
    read = [read_values(picture, ax)[INNER] for ax in figure.axes[:4]]
    assert np.max(read[:3]) < 0.1
    hottest = np.argmax(read[3])
    assert CHANNELS[INNER[hottest]] == "C3"
    assert read[3][hottest] > 0.8
    assert np.delete(read[3], hottest).max() < 0.3


def test_maps_share_one_scale_with_its_label(info, draw):
    features, y = make_features()
    figure = plot_band_topomaps(features, y, info, bands=["alpha", "beta"])
    *panels, color_bar = figure.axes
    means = means_of(features, y)
    for ax in panels:
        np.testing.assert_allclose(ax.images[0].get_clim(), (means.min(), means.max()))
    assert color_bar.get_ylabel() == "Differential entropy (nats)"
    draw(figure).check_layout()


def test_names_of_classes_and_bands(info, draw):
    features, y = make_features(5)
    figure = plot_band_topomaps(features, y, info)
    panels = np.array(figure.axes[:15]).reshape(3, 5)
    assert [ax.get_title() for ax in panels[0]] == list(BANDS)
    assert [ax.get_ylabel() for ax in panels[:, 0]] == [
        "happy\n(n = 3)",
        "neutral\n(n = 1)",
        "sad\n(n = 2)",
    ]
    drawn = [text.get_text() for text in draw(figure).texts()]
    assert {"happy\n(n = 3)", *BANDS} <= set(drawn)


def test_contrast_leaves_the_differences_between_classes(info, draw):
    features, y = make_features()
    common = np.random.default_rng(1).normal(size=(N_CHANS, 2))
    pictures = [
        draw(plot_band_topomaps(f, y, info, bands="ab", contrast=True))
        for f in (features, features + 3 * common)
    ]
    difference = np.abs(pictures[0].pixels - pictures[1].pixels)
    assert difference.max() < 0.02
    *panels, color_bar = pictures[0].figure.axes
    means = means_of(features, y)
    largest = np.abs(means - means.mean(axis=0)).max()
    for ax in panels:
        np.testing.assert_allclose(ax.images[0].get_clim(), (-largest, largest))
    assert color_bar.get_ylabel() == "Difference from the mean (nats)"
    pictures[0].check_layout()


def test_flat_map_has_no_contours(info):
    """Each map had its own levels, so that noise looked like an effect."""
    features = np.zeros((2, N_CHANS, 1))
    features[0] += 1e-3 * np.random.default_rng(0).normal(size=(N_CHANS, 1))
    features[1, 5] = 1.0
    flat, steep = plot_band_topomaps(features, ["a", "b"], info, bands="x").axes[:2]

    def count_lines(ax):
        contours = [c for c in ax.collections if isinstance(c, mpl.contour.ContourSet)]
        return sum(len(p.vertices) for c in contours for p in c.get_paths())

    assert count_lines(flat) == 0
    assert count_lines(steep) > 0


def test_one_value_everywhere(info, draw):
    features = np.ones((2, N_CHANS, 1))
    draw(plot_band_topomaps(features, ["a", "b"], info, bands="x")).check_layout()
    figure = plot_band_topomaps(features, ["a", "a"], info, bands="x", contrast=True)
    draw(figure).check_layout()


def test_equal_values_have_one_colour(info):
    """The colour bar gave its own scale to the last map, which was then another."""
    features = np.ones((2, N_CHANS, 2))
    *axes, _ = plot_band_topomaps(features, ["a", "b"], info, bands="xy").axes
    assert {ax.images[0].get_clim() for ax in axes} == {(0.9, 1.1)}


def test_draws_into_the_axes_given(info):
    features, y = make_features()
    figure, axes = plt.subplots(3, 2, layout="constrained")
    assert plot_band_topomaps(features, y, info, bands="ab", axes=axes) is figure
    assert all(len(ax.images) == 1 for ax in axes.flat)
    assert len(plt.get_fignums()) == 1


# -- attention -----------------------------------------------------------------


def test_attention_is_relative_to_an_equal_share(info, draw):
    weights = np.random.default_rng(0).dirichlet(np.full(N_CHANS, 20.0), size=8)
    figure = plot_attention(torch.as_tensor(weights), info)
    figure.set_dpi(200)
    picture = draw(figure)
    picture.check_layout()
    expected = weights.mean(axis=0) * N_CHANS
    read = read_values(picture, figure.axes[0])
    atol = 0.08 * np.ptp(expected)
    np.testing.assert_allclose(read[INNER], expected[INNER], atol=atol)
    assert figure.axes[1].get_ylabel() == "Attention (1 = equal share)"


def test_attention_of_one_window_is_that_of_its_vector(info, draw):
    weights = np.random.default_rng(0).dirichlet(np.full(N_CHANS, 20.0))
    # A list was a TypeError.
    forms = weights, weights.tolist(), weights[None]
    one, *others = (draw(plot_attention(form, info)).pixels for form in forms)
    for other in others:
        np.testing.assert_array_equal(one, other)


def test_attention_by_class(info, draw):
    weights = np.full((4, N_CHANS), 1.0)
    weights[:2, CHANNELS.index("Cz")] = 3.0
    figure = plot_attention(weights, info, y=[1, 1, 0, 0])
    picture = draw(figure)
    picture.check_layout()
    zero, one = figure.axes[:2]
    assert [ax.get_title() for ax in (zero, one)] == ["0\n(n = 2)", "1\n(n = 2)"]
    assert zero.images[0].get_clim() == one.images[0].get_clim()
    assert np.argmax(read_values(picture, one)[INNER]) == INNER.index(
        CHANNELS.index("Cz")
    )
    np.testing.assert_allclose(read_values(picture, zero)[INNER], 1.0, atol=0.05)


def test_other_channels_of_the_recording_are_ignored(info, draw):
    weights = np.random.default_rng(0).dirichlet(np.full(N_CHANS, 20.0))
    more = mne.create_info([*CHANNELS, "GSR", "eye"], 200.0)
    types = dict.fromkeys(CHANNELS, "eeg") | {"GSR": "gsr", "eye": "misc"}
    more.set_channel_types(types)
    for channel, known in zip(more["chs"], info["chs"], strict=False):
        channel["loc"] = known["loc"]
    with more._unlock():
        more["dig"] = info["dig"]
    one, other = (draw(plot_attention(weights, i)) for i in (info, more))
    np.testing.assert_array_equal(one.pixels, other.pixels)


# -- errors --------------------------------------------------------------------


def test_shapes_that_do_not_fit(info):
    features, y = make_features()
    with pytest.raises(ValueError, match=re.escape("(n_windows, n_chans, n_bands)")):
        plot_band_topomaps(features[0], y, info)
    with pytest.raises(ValueError, match="must name each of the 2 bands"):
        plot_band_topomaps(features, y, info)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        plot_band_topomaps(features, y[1:], info, bands="ab")
    with pytest.raises(ValueError, match=r"each of the 29 channels .* but has 30: "):
        plot_band_topomaps(features[:, 1:], y, info, bands="ab")
    with pytest.raises(ValueError, match=r"must be of shape \(n_windows, n_chans\)"):
        plot_attention(features, info)
    with pytest.raises(ValueError, match="at least two channels"):
        plot_attention(np.ones(1), mne.pick_info(info, [0]))
    with pytest.raises(ValueError, match="above 0 on average"):
        plot_attention(np.zeros(N_CHANS), info)


def test_values_that_are_not_finite(info):
    features, y = make_features()
    features[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match=r"1 of 360 values are not, .* in window 3"):
        plot_band_topomaps(features, y, info, bands="ab")


def test_electrodes_without_a_position(info):
    bare = mne.create_info(CHANNELS, 200.0, "eeg")
    with pytest.raises(ValueError, match=r"none: \['Fp1', .*Set them by info\.set_mon"):
        plot_attention(np.ones(N_CHANS), bare)
    info["chs"][3]["loc"][:] = np.nan
    with pytest.raises(ValueError, match=r"these have none: \['F3'\]"):
        plot_attention(np.ones(N_CHANS), info)
