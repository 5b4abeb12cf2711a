from __future__ import annotations

import mne
import numpy as np
import pytest
import torch

from braindecode_emossl.datasets import SEED
from braindecode_emossl.features import (
    FRONTAL_POSTERIOR_PAIRS,
    LEFT_RIGHT_PAIRS,
    asm,
    dasm,
    dcau,
    differential_entropy,
    find_pairs,
    rasm,
)

SEED_NAMES = list(
    dict.fromkeys(
        [name for pair in LEFT_RIGHT_PAIRS for name in pair]
        + "Fpz Fz FCz Cz CPz Pz POz Oz".split()
    )
)


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(15, 2, size=(4, 62, 5))


def test_pairs_are_those_of_seed(seed_root):
    """27 and 23 pairs, whose electrodes the corpus has."""
    runs = SEED([1], path=seed_root).get_data([1])[1]["0"]
    raw = next(iter(runs.values()))
    names = [name for name in raw.ch_names if name in SEED_NAMES]
    assert len(names) == len(SEED_NAMES) == 62
    assert len(LEFT_RIGHT_PAIRS) == 27
    assert len(FRONTAL_POSTERIOR_PAIRS) == 23
    for pairs in (LEFT_RIGHT_PAIRS, FRONTAL_POSTERIOR_PAIRS):
        assert find_pairs(raw.ch_names, pairs) == pairs
        electrodes = [name for pair in pairs for name in pair]
        assert len(set(electrodes)) == len(electrodes)


def test_pairs_are_mirrored():
    """Left and right are homologous; front and back lie on one line."""
    positions = mne.channels.make_standard_montage("standard_1005").get_positions()
    positions = positions["ch_pos"]
    for left, right in LEFT_RIGHT_PAIRS:
        if left != "CB1":
            x_left, y_left, _ = positions[left]
            x_right, y_right, _ = positions[right]
            assert x_left < 0 < x_right
            assert y_left == pytest.approx(y_right, abs=0.01)
    for front, back in FRONTAL_POSTERIOR_PAIRS:
        if "CB" not in back:
            assert positions[front][1] > positions[back][1]
            assert np.sign(round(positions[front][0], 2)) == np.sign(
                round(positions[back][0], 2)
            )


def test_values(features):
    index = {name: i for i, name in enumerate(SEED_NAMES)}
    for i, (left, right) in enumerate(LEFT_RIGHT_PAIRS):
        a, b = features[:, index[left]], features[:, index[right]]
        np.testing.assert_array_equal(dasm(features, SEED_NAMES)[:, i], a - b)
        np.testing.assert_array_equal(rasm(features, SEED_NAMES)[:, i], a / b)
        np.testing.assert_array_equal(asm(features, SEED_NAMES)[:, i], a - b)
        np.testing.assert_array_equal(asm(features, SEED_NAMES)[:, 27 + i], a / b)
    for i, (front, back) in enumerate(FRONTAL_POSTERIOR_PAIRS):
        a, b = features[:, index[front]], features[:, index[back]]
        np.testing.assert_array_equal(dcau(features, SEED_NAMES)[:, i], a - b)
    assert asm(features, SEED_NAMES).shape == (4, 54, 5)


@pytest.mark.parametrize("function", [dasm, rasm, asm, dcau])
def test_pairs_may_be_an_iterator(features, function):
    """The check of the names exhausted it, and the result was empty."""
    pairs = iter(find_pairs(SEED_NAMES))
    expected = function(features, SEED_NAMES, LEFT_RIGHT_PAIRS)
    np.testing.assert_array_equal(function(features, SEED_NAMES, pairs), expected)


@pytest.mark.parametrize("function", [dasm, rasm, asm, dcau])
def test_names_in_any_case_and_torch(features, function):
    expected = function(features, SEED_NAMES)
    upper = [name.upper() for name in SEED_NAMES]
    np.testing.assert_array_equal(function(features, upper), expected)
    found = function(torch.from_numpy(features), SEED_NAMES)
    np.testing.assert_allclose(found.numpy(), expected)


def test_dasm_does_not_depend_on_the_unit():
    x = np.random.default_rng(0).standard_normal((2, 1000))
    names = ["F3", "F4"]
    pairs = find_pairs(names)
    volts, microvolts = (differential_entropy(c * x, 200) for c in (1e-6, 1.0))
    np.testing.assert_allclose(
        dasm(volts, names, pairs), dasm(microvolts, names, pairs), atol=1e-9
    )


def test_wrong_arguments(features):
    names = SEED_NAMES.copy()
    names[names.index("Fp2")] = "A2"
    with pytest.raises(ValueError, match=r"\['Fp2'\] are missing; find_pairs"):
        dasm(features, names)
    assert ("Fp1", "Fp2") not in find_pairs(names)
    assert dasm(features, names, find_pairs(names)).shape == (4, 26, 5)
    with pytest.raises(ValueError, match=r"but got \[\], of which"):
        dasm(features, names, [])
    with pytest.raises(ValueError, match=r"n_chans=61, n_bands\).*\(4, 62, 5\)"):
        dasm(features, SEED_NAMES[:-1])
