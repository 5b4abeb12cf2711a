"""Structure of the replicas' signals, and controls that take it away."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kurtosis
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from braindecode_emossl.datasets import DEAP, SEED, SEED_IV, seed, write_replica
from braindecode_emossl.datasets.replica_head import REGIONS, Head, draw_lead_field
from braindecode_emossl.datasets.replica_signals import (
    make_eeg,
    make_generator,
    make_stimulus,
    make_subject,
    make_trial,
)
from braindecode_emossl.evaluation import evaluate
from braindecode_emossl.features import DifferentialEntropy
from braindecode_emossl.paradigms import Emotion

KNOBS = {
    "corpus": "SEED",
    "effect": seed.SEED.replica_effect,
    "seed": 0,
    "effect_size": 1.0,
    "isc": 1.0,
    "continuity": 1.0,
    "subject_variance": 1.0,
    "artifacts": 1.0,
}
SFREQ, SECONDS = 200, 40
# Label (valence) of each stimulus.
VALENCE = (1, -1, 1, -1, 1, -1)


@pytest.fixture(scope="module")
def head():
    return Head.of(seed.CH_NAMES, seed.POSITIONS)


def make_signals(head, n_subjects=2, stimuli=VALENCE, **knobs):
    """Return EEG (n_subjects, n_stimuli, n_chans, n_times) of one session each."""
    settings = KNOBS | knobs
    signals = []
    for subject in range(1, n_subjects + 1):
        viewer = make_subject(head, settings, subject)
        for number, valence in enumerate(stimuli, start=1):
            stimulus = make_stimulus(settings, SECONDS, number)
            state = settings["effect_size"] * np.array([valence, 0.0])
            rng = make_generator(settings, subject, 1, number)
            trial = make_trial(viewer, stimulus, state, SECONDS, rng)
            n_times = SECONDS * SFREQ
            signals.append(make_eeg(viewer, trial, SFREQ, n_times, (0.5, 75), rng))
    return np.reshape(signals, (n_subjects, len(stimuli), *signals[0].shape))


def entropy(signals):
    """Return DE of windows of 1 s (..., n_windows, n_chans * 5)."""
    windows = signals.reshape(*signals.shape[:-1], SECONDS, SFREQ).swapaxes(-2, -3)
    found = DifferentialEntropy(SFREQ).transform(windows.reshape(-1, 62, SFREQ))
    return found.reshape(*signals.shape[:2], SECONDS, -1)


def correlate(a, b, axis=-2):
    """Return the mean correlation over an axis."""
    a, b = (x - x.mean(axis, keepdims=True) for x in (a, b))
    norm = np.sqrt((a**2).sum(axis) * (b**2).sum(axis))
    return np.mean((a * b).sum(axis) / norm)


# -- structure -----------------------------------------------------------------


def test_same_seed_same_signals(head):
    first, second = (make_signals(head, 1, (1,)) for _ in range(2))
    assert_allclose(first, second)
    assert not np.allclose(first, make_signals(head, 1, (1,), seed=1))


def test_lead_fields_have_an_average_reference_and_unit_variance(head):
    field, blink = draw_lead_field(head, 1.0, np.random.default_rng(0))
    assert field.shape == (62, 61)
    assert_allclose(field.sum(axis=0), 0, atol=1e-5)
    assert_allclose((field**2).sum(axis=1).mean(), 1, rtol=1e-5)
    names = head.info.ch_names
    assert blink[names.index("Fpz")] > 0.8
    assert abs(blink[names.index("Oz")]) < 0.2


def test_an_electrode_sees_the_source_beneath_it_most(head):
    field, _ = draw_lead_field(head, 0.0, np.random.default_rng(0))
    sites = [site for names in REGIONS.values() for site in names]
    for site in ("T7", "T8", "Oz", "F3", "Cz"):
        nearest = field[head.info.ch_names.index(site)]
        share = np.argsort(np.abs(nearest))[-6:]
        assert sites.index(site) in share


def test_subjects_differ_only_by_the_knob(head):
    settings = KNOBS | {"subject_variance": 0.0}
    one, two = (make_subject(head, settings, subject) for subject in (1, 2))
    assert_allclose(one.response, two.response)
    assert one.spectra == two.spectra
    three = make_subject(head, KNOBS, 1)
    assert not np.allclose(one.field, three.field, rtol=0.2)


def test_spectra_fall_and_peak_at_the_alpha_rhythm_of_the_subject(head):
    signals = make_signals(head, 2, (1, -1), artifacts=0.0)
    frequencies = np.fft.rfftfreq(4 * SFREQ, 1 / SFREQ)
    for subject, own in enumerate(signals, start=1):
        windows = own.reshape(2, 62, -1, 4 * SFREQ) * np.hanning(4 * SFREQ)
        power = (np.abs(np.fft.rfft(windows)) ** 2).mean(axis=(0, 2))
        occipital = power[head.info.ch_names.index("Oz")]
        inside = (frequencies >= 7.5) & (frequencies <= 12.5)
        over_background = (occipital * frequencies)[inside]
        peak = frequencies[inside][np.argmax(over_background)]
        expected = make_subject(head, KNOBS, subject).spectra[1]
        assert abs(peak - expected) < 1.1
        falling = [occipital[np.argmin(abs(frequencies - f))] for f in (2, 5, 20, 40)]
        assert sorted(falling, reverse=True) == falling


def test_artifacts_are_heavy_tailed_and_go_with_the_knob(head):
    with_artifacts, without = (
        make_signals(head, 1, (1, -1), continuity=0.0, artifacts=amount)[0]
        for amount in (1.0, 0.0)
    )
    assert kurtosis(with_artifacts, axis=-1).max() > 3
    assert kurtosis(without, axis=-1).max() < 1
    front = head.info.ch_names.index("Fp1")
    assert (
        np.abs(with_artifacts[:, front]).max() > 1.5 * np.abs(without[:, front]).max()
    )


# -- controls ------------------------------------------------------------------


def test_differential_entropy_has_continuity_that_goes_with_the_knob(head):
    by_knob = {}
    for continuity in (0.0, 1.0):
        courses = entropy(make_signals(head, 2, continuity=continuity, artifacts=0.0))
        by_knob[continuity] = correlate(courses[..., :-1, :], courses[..., 1:, :])
    # Without, all that is left is the bias of a mean over 40 windows, -1/40.
    assert by_knob[1.0] > 0.25
    assert abs(by_knob[0.0]) < 0.05


def test_subjects_share_the_course_of_a_stimulus_by_the_knob(head):
    by_knob = {}
    for isc in (0.0, 1.0):
        courses = entropy(make_signals(head, 3, isc=isc, subject_variance=0.0))
        pairs = [(0, 1), (0, 2), (1, 2)]
        by_knob[isc] = [
            np.mean([correlate(courses[a], courses[b]) for a, b in pairs]),
            # Another stimulus has another course.
            np.mean([correlate(courses[a], courses[b][::-1]) for a, b in pairs]),
        ]
    assert by_knob[1.0][0] > 0.08
    # A correlation over 40 windows has a standard error of 0.16; averaged over 18
    # trials, and over channels and bands that are not independent, less than 0.03.
    assert np.abs([by_knob[1.0][1], *by_knob[0.0]]).max() < 0.09


def test_without_isc_a_stimulus_is_worth_no_more_than_its_label(head):
    """Patterns of trials of other subjects: same stimulus against same label."""
    differences = {}
    for isc in (0.0, 4.0):
        patterns = entropy(make_signals(head, 3, isc=isc)).mean(axis=2)
        patterns -= patterns.mean(axis=1, keepdims=True)
        same, label = [], []
        for a, b in [(0, 1), (0, 2), (1, 2)]:
            matrix = np.corrcoef(patterns[a], patterns[b])[
                : len(VALENCE), len(VALENCE) :
            ]
            alike = np.equal.outer(VALENCE, VALENCE) & ~np.eye(len(VALENCE), dtype=bool)
            same += np.diag(matrix).tolist()
            label += matrix[alike].tolist()
        error = np.sqrt(np.var(same) / len(same) + np.var(label) / len(label))
        differences[isc] = (np.mean(same) - np.mean(label)) / error
    assert differences[0.0] < 3
    assert differences[4.0] > 3


def test_the_course_of_a_stimulus_names_it_by_neither_mean_nor_variance():
    """All subjects see the same films, so that a film is as good as its label."""
    for number in range(1, 6):
        stimulus = make_stimulus(KNOBS | {"effect_size": 0.0}, SECONDS, number)
        assert_allclose(stimulus.locked.mean(axis=-1), 0, atol=1e-12)
        assert_allclose(
            stimulus.locked.std(axis=-1), stimulus.locked.std(axis=-1)[0, 0]
        )
        assert_allclose(stimulus.excitement.mean(), 0, atol=1e-12)
        assert_allclose(stimulus.pattern, 0)
        assert_allclose(stimulus.feeling, 0)


def flatten(X):
    return X.reshape(len(X), -1)


def describe(X):
    """Return mean, standard deviation and mean step of each channel of windows."""
    return np.hstack([X.mean(-1), X.std(-1), np.abs(np.diff(X)).mean(-1)])


CLASSIFIER = (StandardScaler(), LogisticRegression(max_iter=1000))
FLAT = make_pipeline(FunctionTransformer(flatten), *CLASSIFIER)
DESCRIBED = make_pipeline(FunctionTransformer(describe), SimpleImputer(), *CLASSIFIER)


def score(dataset, paradigm, protocol, pipeline):
    """Return the mean balanced accuracy over folds."""
    table = evaluate({"p": pipeline}, [dataset], paradigm, protocol, random_state=0)
    return table["balanced_accuracy"].mean()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """SEED of four subjects without and with (far too strong) effects."""
    return {
        effect: write_replica(
            "SEED",
            tmp_path_factory.mktemp("seed"),
            subjects=range(1, 5),
            seconds=2,
            seed=0,
            effect_size=effect,
        )
        for effect in (0, 6)
    }


@pytest.mark.parametrize(
    ("protocol", "effect"),
    [
        pytest.param("within-session", 0, marks=pytest.mark.slow),
        pytest.param("cross-session", 0, marks=pytest.mark.slow),
        ("leave-one-subject-out", 0),
        ("leave-one-subject-out", 6),
    ],
)
def test_without_effect_every_protocol_scores_chance(seeds, protocol, effect):
    dataset = SEED(range(1, 5), path=seeds[effect])
    found = score(dataset, Emotion(features="de", window=2.0), protocol, FLAT)
    if effect:
        assert found > 0.6
    else:
        # 180 trials: a standard error of 0.035, and folds that lean the same way.
        assert abs(found - 1 / 3) < 3.5 * 0.035


@pytest.fixture(scope="module")
def deaps(tmp_path_factory):
    return {
        effect: write_replica(
            "DEAP",
            tmp_path_factory.mktemp("deap"),
            subjects=range(1, 6),
            seconds=4,
            seed=0,
            effect_size=effect,
        )
        for effect in (0, 12)
    }


@pytest.mark.slow
@pytest.mark.parametrize("picks", ["gsr", "resp", "emg"])
def test_without_effect_every_modality_scores_chance(deaps, picks):
    paradigm = Emotion(
        "valence" if picks == "emg" else "arousal",
        picks=picks,
        fmin=None,
        fmax=None,
        resample=None,
    )
    found = {
        effect: score(
            DEAP(range(1, 6), path=root, return_all_modalities=True),
            paradigm,
            "leave-one-subject-out",
            DESCRIBED,
        )
        for effect, root in deaps.items()
    }
    # 200 trials: a standard error of 0.035.
    assert abs(found[0] - 1 / 2) < 3 * 0.035
    assert found[12] > 0.6


@pytest.mark.slow
def test_without_effect_eyes_score_chance(tmp_path):
    found = {}
    for effect in (0, 10):
        options = {"subjects": range(1, 5), "sessions": [0], "seconds": 8, "seed": 0}
        root = write_replica(
            "SEED-IV", tmp_path / str(effect), effect_size=effect, **options
        )
        dataset = SEED_IV(range(1, 5), [0], path=root, return_all_modalities=True)
        paradigm = Emotion(picks="misc", fmin=None, fmax=None, resample=None)
        found[effect] = score(dataset, paradigm, "leave-one-subject-out", DESCRIBED)
    # 96 trials: a standard error of 0.044.
    assert abs(found[0] - 1 / 4) < 3 * 0.044
    assert found[10] > 0.45
