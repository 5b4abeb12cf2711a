"""Labels by threshold, ties, margin and source, and bands that a release has cut."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braindecode_emossl.datasets import DEAP, DREAMER, FACED, MAHNOB_HCI, SEED, SEED_IV
from braindecode_emossl.datasets.base import EmotionDataset, Trial
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.paradigms.labels import (
    find_level,
    warn_of_ignored_rules,
    warn_of_threshold,
)
from braindecode_emossl.paradigms.passbands import describe_cut_bands, list_bands

AS_IS = {"fmin": None, "fmax": None, "resample": None, "window": 1.0}


class Rated(EmotionDataset):
    """A corpus of noise with one run per trial; (valence, arousal) of each."""

    code_name = "Rated"
    path_key = "RATED"
    all_subject_numbers = (1,)
    n_sessions_per_subject = 1
    classes = {"any": 1}  # noqa: RUF012
    common_interval = (0, 1)
    doi_name = ""
    access_url = "https://example.org"
    expected_files = ("a", "b")
    ratings = ("valence", "arousal")
    rating_midpoint = 5.0
    class_source = "self-report"
    stimulus_ratings = ("valence",)
    passband = (4.0, 45.0)

    def __init__(self, *pairs):
        self.pairs = pairs
        self.online = [9.0] * len(pairs)
        super().__init__(path=".")

    def _find_recordings(self, root, subject):
        return {"0": root}

    def _read_trials(self, file, session):
        return {
            f"{k:02d}": [
                Trial(
                    k,
                    f"{k:02d}",
                    "any",
                    1.0,
                    0.0,
                    {"valence": pair[0], "arousal": pair[1]},
                )
            ]
            for k, pair in enumerate(self.pairs)
        }

    def _read_recording(self, file, session):
        for run, trials in self._read_trials(file, session).items():
            noise = np.random.default_rng(0).normal(scale=1e-5, size=(2, 200))
            yield run, self._make_raw(noise, ["Fz", "Cz"], ["eeg"] * 2, 200.0, trials)

    def stimulus_table(self):
        names = [f"{k:02d}" for k in range(len(self.pairs))]
        return pd.DataFrame({"valence": self.online}, index=names)


class Filmed(Rated):
    """A corpus whose one class determines the valence."""

    code_name = "Filmed"
    path_key = "FILMED"
    class_source = "stimulus"
    valence_of_class = {"any": "positive"}  # noqa: RUF012


def labels(corpus, target="valence", **kwargs):
    paradigm = Emotion(target, **kwargs, **AS_IS)
    return paradigm.get_data(corpus, unlabeled=True)[1].tolist()


LOW, HIGH, NONE = "negative", "positive", "unlabeled"
VALENCES = Rated(*((value, 1.0) for value in (4.0, 4.9, 5.0, 5.1, 6.0)))


# -- ratings -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [LOW, LOW, LOW, HIGH, HIGH]),
        ({"ties": "high"}, [LOW, LOW, HIGH, HIGH, HIGH]),
        ({"ties": "drop"}, [LOW, LOW, NONE, HIGH, HIGH]),
        ({"margin": 0.1}, [LOW, NONE, NONE, NONE, HIGH]),
        ({"margin": 0.1, "ties": "high"}, [LOW, NONE, NONE, NONE, HIGH]),
        ({"margin": 0.05}, [LOW, LOW, NONE, HIGH, HIGH]),
        ({"threshold": 4, "ties": "high"}, [HIGH] * 5),
        ({"threshold": 4.9, "ties": "drop"}, [LOW, NONE, HIGH, HIGH, HIGH]),
        ({"threshold": "median", "ties": "drop"}, [LOW, LOW, NONE, HIGH, HIGH]),
    ],
)
def test_labels_of_ratings_around_the_threshold(settings, expected):
    assert labels(VALENCES, **settings) == expected


@given(
    st.floats(1, 9),
    st.lists(st.floats(1, 9), min_size=1, max_size=2, unique=True).map(sorted),
    st.sampled_from(["low", "high", "drop"]),
    st.floats(0, 2),
)
def test_level_is_the_number_of_cuts_below(rating, cuts, ties, margin):
    level = find_level(rating, cuts, ties, margin)
    distance = min(abs(rating - cut) for cut in cuts)
    if distance > margin + 1e-6:
        assert level == sum(rating > cut for cut in cuts)
    elif margin > 0 and distance <= margin:
        assert level is None


def test_margin_is_not_lost_in_rounding():
    """3.4 - 3.3 is more than 0.1 in floating point."""
    assert find_level(3.4, (3.3,), "low", 0.1) is None
    assert find_level(3.2, (3.3,), "low", 0.1) is None


def test_ties_and_margin_apply_to_each_cut_of_three_classes():
    corpus = Rated(*((value, 1.0) for value in (3.0, 3.2, 4.5, 6.0, 6.3)))
    names = ["negative", "neutral", "positive"]
    low, middle, high = names
    three = {"n_classes": 3}
    assert labels(corpus, **three) == [low, middle, middle, middle, high]
    ties = labels(corpus, **three, ties="high")
    assert ties == [middle, middle, middle, high, high]
    assert labels(corpus, **three, margin=0.25) == [NONE, NONE, middle, NONE, high]


def test_quadrant_needs_both_ratings():
    corpus = Rated((5.0, 9.0), (9.0, 5.0), (9.0, 9.0))
    dropped = labels(corpus, "quadrant", ties="drop")
    assert dropped == [NONE, NONE, "HVHA"]


def test_missing_rating_gives_no_label():
    """NaN was low, as it is not greater than the threshold."""
    assert labels(Rated((np.nan, 1.0), (9.0, 1.0))) == [NONE, HIGH]


def test_unlabelled_trials_are_left_out_unless_asked_for():
    paradigm = Emotion("valence", margin=0.5, **AS_IS)
    _, y, metadata = paradigm.get_data(VALENCES)
    assert y.tolist() == [LOW, HIGH]
    assert metadata["trial"].tolist() == [0, 4]
    assert paradigm.class_balance(VALENCES).loc[1].tolist() == [1, 1, 3]


def test_threshold_is_the_midpoint_of_the_corpus():
    class OneToFive(Rated):
        rating_midpoint = 3.0

    assert labels(OneToFive((3.0, 1.0), (3.1, 1.0))) == [LOW, HIGH]
    assert DEAP.rating_midpoint == MAHNOB_HCI.rating_midpoint == 5.0


def test_the_default_cuts_are_those_of_one_scale_only():
    """A corpus from 1 to 5 was cut at 3 and 6 into two of three classes."""

    class OneToFive(Rated):
        rating_midpoint = 3.0

    class Cut(OneToFive):
        rating_cuts = (7 / 3, 11 / 3)

    pairs = (2.0, 1.0), (3.0, 1.0), (4.0, 1.0)
    with pytest.raises(ValueError, match=r"midpoint 3 of .* Set its attribute rating"):
        labels(OneToFive(*pairs), n_classes=3)
    assert labels(Cut(*pairs), n_classes=3) == [LOW, "neutral", HIGH]
    assert labels(Rated(*pairs), n_classes=3) == [LOW, LOW, "neutral"]


@pytest.mark.parametrize(
    ("corpus", "inside", "outside", "scale"),
    [
        (Rated, [1, 9], [0.9, 50], "1 to 9"),
        (DREAMER, [1, 5], [0.5, 5.5], "1 to 5"),
        (FACED, [0, 7], [-0.5, 7.5], "0 to 7"),
    ],
)
def test_a_threshold_outside_the_scale_is_warned_of(corpus, inside, outside, scale):
    """All trials got one label without a word."""
    warn_of_threshold.cache_clear()
    for threshold in outside:
        with pytest.warns(UserWarning, match=f"lies outside .* from {scale}: all"):
            Emotion("arousal", threshold=threshold)._labeller(corpus())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for threshold in (*inside, "median"):
            Emotion("arousal", threshold=threshold)._labeller(corpus())


def test_corpus_without_a_midpoint_needs_a_threshold():
    class Unknown(Rated):
        rating_midpoint = None

    with pytest.raises(ValueError, match="Rated does not state the midpoint of its"):
        labels(Unknown((3.0, 1.0)))
    assert labels(Unknown((3.0, 1.0)), threshold=2) == [HIGH]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ties": "up"}, '^ties must be "low", "high" or "drop", but got \'up\''),
        ({"ties": None}, "^ties must be .* but got None"),
        ({"margin": -1}, "^margin must not be negative, but got -1"),
        ({"margin": None}, "^margin must be a number, but got None"),
        (
            {"label_source": "film"},
            '^label_source must be None, "self-report" or "stimulus", but got \'film\'',
        ),
        (
            {"label_source": "stimulus", "threshold": "median"},
            'of the subject\'s own ratings, but label_source is "stimulus"',
        ),
        ({"n_classes": 3, "threshold": 5}, "=5.0 makes two classes, but n_classes is"),
        ({"target": "emotion", "ties": "high"}, 'the target "emotion" uses the corpus'),
        ({"target": "emotion", "margin": 1}, "threshold, ties and margin apply to rat"),
        ({"target": "emotion", "threshold": 5}, "and got threshold=5.0, ties='low'"),
    ],
)
def test_settings_of_labels_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Emotion(**{"target": "valence", **settings})


# -- source of the labels ------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"threshold": 4.0}, "threshold=4.0 of Emotion"),
        ({"ties": "high", "margin": 0.5}, "ties='high' and margin=0.5 of Emotion"),
    ],
)
def test_rules_for_ratings_without_effect_are_warned_of_once(rules, says):
    """SEED's films have a valence, so that thresholds were ignored silently."""
    warn_of_ignored_rules.cache_clear()
    paradigm, corpus = Emotion("valence", **rules), Filmed((2.0, 5.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            found = paradigm.label_trials(corpus)["label"]
    (warning,) = [w for w in caught if says in str(w.message)]
    assert "no effect on Filmed" in str(warning.message)
    assert found.tolist() == [HIGH]  # that of the class, not of the rating
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Emotion("valence").label_trials(corpus)
        Emotion("valence", **rules).label_trials(Rated((2.0, 5.0), (8.0, 5.0)))


def test_labels_of_the_stimulus():
    corpus = Rated((1.0, 1.0), (9.0, 1.0), (9.0, 1.0))
    corpus.online = [8.0, 2.0, 5.0]
    assert labels(corpus, label_source="self-report") == [LOW, HIGH, HIGH]
    assert labels(corpus, label_source="stimulus") == [HIGH, LOW, LOW]
    dropped = labels(corpus, label_source="stimulus", ties="drop")
    assert dropped == [HIGH, LOW, NONE]


def test_labels_of_the_stimulus_are_in_the_digest():
    """Results for one list of stimuli must not be returned for another."""
    corpus = Rated((1.0, 1.0))

    def identity():
        paradigm = Emotion("valence", label_source="stimulus", **AS_IS)
        return repr(paradigm.make_process_pipelines(corpus)[0].steps)

    before = identity()
    corpus.online = [1.0]
    assert identity() != before


@pytest.mark.parametrize(
    ("cls", "target", "source", "is_valid"),
    [
        (SEED, "emotion", "stimulus", True),
        (SEED_IV, "valence", "stimulus", True),
        (SEED, "valence", "self-report", False),
        (DEAP, "emotion", "self-report", True),
        (DEAP, "emotion", "stimulus", False),
        (DEAP, "quadrant", "stimulus", True),
        (DEAP, "liking", "stimulus", False),
        (MAHNOB_HCI, "arousal", "self-report", True),
        (MAHNOB_HCI, "arousal", "stimulus", False),
    ],
)
def test_corpora_that_have_a_source(cls, target, source, is_valid):
    paradigm = Emotion(target, label_source=source)
    assert paradigm.is_valid(cls()) == is_valid
    if not is_valid:
        message = f"has no labels for target='{target}' with label_source='{source}'"
        with pytest.raises(ValueError, match=message):
            paradigm.get_data(cls())


# -- bands of the release ------------------------------------------------------


def find_warnings(**settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Emotion("valence", **{**AS_IS, **settings}).get_data(Rated((9.0, 1.0)))
    return [str(w.message) for w in caught if "cut-off" in str(w.message)]


DELTA = (
    "delta, 1-4 Hz, lies below 4 Hz, the cut-off of the Rated release: its values "
    "measure the filter's roll-off."
)
OWN = DifferentialEntropy(200.0, bands={"low": (2.0, 8.0), "high": (50.0, 70.0)})


@pytest.mark.parametrize("features", ["de", "psd"])
def test_a_band_that_was_cut_warns_in_one_sentence(features):
    assert find_warnings(features=features) == [DELTA]


@pytest.mark.parametrize(
    ("settings", "begin"),
    [
        ({"fmin": 1.0, "fmax": 4.0}, "the pass-band of the filter, 1-4 Hz, lies below"),
        ({"fmin": 60.0}, "the pass-band of the filter, 60 Hz, lies above 45 Hz"),
        (
            {"features": OWN},
            "high, 50-70 Hz, lies above 45 Hz, the cut-off of the Rated release",
        ),
    ],
)
def test_other_bands_that_were_cut_warn(settings, begin):
    (message,) = find_warnings(**settings)
    assert message.startswith(begin)


@pytest.mark.parametrize(
    "settings", [{}, {"fmin": 0.5, "fmax": 47.0}, {"fmin": 8.0, "fmax": 90.0}]
)
def test_signals_that_hold_the_release_do_not_warn(settings):
    """The default filter merely reaches beyond the release of DEAP."""
    assert not find_warnings(**settings)


@pytest.mark.parametrize("passband", [(0.0, 75.0), (1.0, 75.0), None])
def test_bands_inside_the_release_are_not_cut(passband):
    assert describe_cut_bands(list_bands("de", 0.5, 47.0), passband) == ""


def test_passbands_of_the_releases():
    assert DEAP().passband == (4.0, 45.0)
    assert DEAP(source="original").passband == (0.0, 256.0)
    assert SEED().passband == (0.0, 75.0)
    assert SEED_IV().passband == (1.0, 75.0)
    assert MAHNOB_HCI().passband == (0.0, 128.0)
