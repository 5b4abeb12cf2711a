"""What brings corpora together: shared channels, harmonised labels, balance."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pandas as pd
import pytest
from moabb.evaluations import CrossSubjectEvaluation, WithinSessionEvaluation
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import StratifiedGroupKFold

from braindecode_emossl.datasets import DEAP, MAHNOB_HCI, SEED, SEED_IV, write_replica
from braindecode_emossl.errors import LeakageWarning
from braindecode_emossl.features import BANDS, band_power
from braindecode_emossl.paradigms import Emotion

CORPORA = {"SEED": SEED, "SEED-IV": SEED_IV, "DEAP": DEAP, "MAHNOB-HCI": MAHNOB_HCI}
#: Of signals that are not looked at.
ONE_CHANNEL = {"channels": ["Fz"], "fmin": None, "fmax": None, "resample": None}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """One subject of each corpus, one session."""
    root = tmp_path_factory.mktemp("corpora")
    opened = {}
    for code, cls in CORPORA.items():
        path = write_replica(
            code, root / code, subjects=[1], sessions=[0], seconds=4, seed=0
        )
        opened[code] = cls([1], sessions=[0], path=path)
    return opened


# -- match_all -----------------------------------------------------------------


def test_common_channels_are_in_a_stable_order(corpora):
    """MOABB's own takes them from a set: another order in every process."""
    paradigm = Emotion("valence")
    paradigm.match_all([*corpora.values()])
    of_seed = corpora["SEED"].first_raw().ch_names
    assert paradigm.channels == [c for c in of_seed if c in set(paradigm.channels)]
    assert len(paradigm.channels) == 32  # those of DEAP and MAHNOB-HCI, all in SEED


def test_the_sampling_rate_is_the_lowest_and_whole(corpora):
    """MOABB's own takes half a hertz off, for windows of an inexact length."""
    paradigm = Emotion("valence")
    paradigm.match_all([corpora["SEED"], corpora["DEAP"]])
    assert paradigm.resample == 128.0
    slow = Emotion("valence", resample=100.0)
    slow.match_all([corpora["SEED"], corpora["DEAP"]])
    assert slow.resample == 100.0


def test_matched_corpora_give_windows_of_one_shape(corpora):
    paradigm = Emotion("valence", window=2.0)
    paradigm.match_all([*corpora.values()])
    shapes, labels = set(), set()
    for dataset in corpora.values():
        X, y, _ = paradigm.get_data(dataset)
        shapes.add(X.shape[1:])
        labels |= set(y)
        epochs, _, _ = paradigm.get_data(dataset, return_epochs=True)
        assert epochs.ch_names == paradigm.channels
    assert shapes == {(32, 256)}
    assert labels == {"negative", "positive"}


@pytest.mark.parametrize("features", [None, "de"])
def test_union_fills_what_a_corpus_lacks_with_zeros(corpora, features):
    paradigm = Emotion("valence", window=2.0, features=features)
    paradigm.match_all(
        [corpora["SEED"], corpora["DEAP"]], channel_merge_strategy="union"
    )
    assert len(paradigm.channels) == 62
    X, _, _ = paradigm.get_data(corpora["DEAP"])
    own = corpora["DEAP"].first_raw().copy().pick("eeg").ch_names
    has = np.isin(paradigm.channels, own)
    assert has.sum() == 32 and not X[:, ~has].any()
    alone = Emotion(
        "valence",
        window=2.0,
        features=features,
        resample=128.0,
        channels=[name for name in paradigm.channels if name in own],
    )
    assert_array_equal(X[:, has], alone.get_data(corpora["DEAP"])[0])


def test_corpora_without_a_common_channel(corpora):
    paradigm = Emotion("valence")
    names = corpora["SEED"].first_raw().ch_names
    with pytest.raises(ValueError, match="no channel in common"):
        paradigm.match_all([corpora["SEED"], corpora["DEAP"]], ignore=names)
    with pytest.raises(ValueError, match='must be "intersect" or "union", but got'):
        paradigm.match_all([corpora["SEED"]], channel_merge_strategy="all")


def test_info_says_what_arrays_do_not(corpora):
    paradigm = Emotion(channels=["Cz", "Fp1"], resample=100.0)
    info = paradigm.get_info(corpora["SEED"])
    assert info["ch_names"] == ["Cz", "Fp1"] and info["sfreq"] == 100.0
    assert np.linalg.norm(info["chs"][0]["loc"][:3]) > 0.05  # m


# -- labels --------------------------------------------------------------------


@pytest.mark.parametrize("code", ["DEAP", "MAHNOB-HCI"])
def test_median_splits_the_ratings_of_each_subject(code, tmp_path):
    path = write_replica(code, tmp_path, subjects=[1, 2], seconds=1, seed=3)
    dataset = CORPORA[code]([1, 2], path=path)
    paradigm = Emotion("arousal", threshold="median", window=1.0, **ONE_CHANNEL)
    _, y, metadata = paradigm.get_data(dataset)
    for subject, rows in metadata.assign(label=y).groupby("subject"):
        median = dataset.trial_table(subject)["arousal"].median()
        expected = np.where(rows["arousal"] > median, "high", "low")
        assert_array_equal(rows["label"], expected)
    balance = paradigm.class_balance(dataset)
    assert_array_equal(balance.index, [1, 2])
    assert (balance["high"] <= balance["low"]).all() and balance["high"].min() > 0


def test_median_survives_the_raw_cache(tmp_path):
    path = write_replica("DEAP", tmp_path / "a", subjects=[2], seconds=1, seed=3)
    paradigm = Emotion("quadrant", threshold="median", window=1.0, **ONE_CHANNEL)
    fresh = paradigm.get_data(DEAP([2], path=path))[1]
    cache = {"use": True, "save_raw": True, "path": tmp_path / "cache"}
    for _ in range(2):
        cached = paradigm.get_data(DEAP([2], path=path), cache_config=cache)[1]
        assert_array_equal(cached, fresh)


def test_class_balance_counts_trials(corpora):
    balance = Emotion("valence").class_balance(corpora["SEED"])
    assert balance.loc[1].to_dict() == {"negative": 5, "positive": 5, "unlabeled": 5}
    _, y, metadata = Emotion("valence", n_classes=3).get_data(corpora["MAHNOB-HCI"])
    trials = metadata.assign(label=y).drop_duplicates("trial")["label"].value_counts()
    balance = Emotion("valence", n_classes=3).class_balance(corpora["MAHNOB-HCI"])
    assert balance.loc[1, list(trials.index)].to_dict() == trials.to_dict()
    assert balance.loc[1].sum() == trials.sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": "mean"}, "a number or \"median\", but got 'mean'"),
        ({"threshold": "median", "n_classes": 3}, "makes two classes"),
        ({"features": "dfa"}, "but got 'dfa'"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Emotion("valence", **arguments)


# -- features ------------------------------------------------------------------


def test_psd_is_power_per_hertz(corpora):
    X, _, _ = Emotion(window=2.0).get_data(corpora["SEED"])
    density, _, _ = Emotion(window=2.0, features="psd").get_data(corpora["SEED"])
    power = band_power(X, 200.0, window=None, method="fft")[:, 0]
    assert_allclose(density, power / [f2 - f1 for f1, f2 in BANDS.values()])


@pytest.mark.parametrize("features", ["de", "psd"])
def test_band_features_are_of_eeg_alone(corpora, features):
    """The DE of skin resistance or of eye features would be finite and mean nothing."""
    dataset = DEAP([1], path=corpora["DEAP"].path, return_all_modalities=True)
    with pytest.raises(ValueError, match=r"are for EEG, but .*'gsr'.*'resp'"):
        Emotion(features=features).get_data(dataset)


# -- a stock evaluation that leaks ---------------------------------------------


def evaluate(evaluation, dataset, tmp_path, **arguments):
    paradigm = Emotion("valence", features="de", window=2.0)
    evaluation(
        paradigm=paradigm, datasets=[dataset], hdf5_path=tmp_path, **arguments
    ).process({"dummy": DummyClassifier()})


def test_stock_within_session_warns_and_names_the_way_out(corpora, tmp_path):
    with pytest.warns(LeakageWarning, match=r'evaluate\(.*"within-session"\)'):
        evaluate(WithinSessionEvaluation, corpora["SEED"], tmp_path)


def test_groups_that_moabb_ignores_still_warn(corpora, tmp_path):
    """They silenced the warning, but the default splitter shuffles all the same."""
    with pytest.warns(LeakageWarning, match='groups="trial" together with a cv_class'):
        evaluate(WithinSessionEvaluation, corpora["SEED"], tmp_path, groups="trial")


def test_evaluations_that_hold_out_trials_do_not_warn(corpora, tmp_path):
    two = SEED(
        [1, 2],
        path=write_replica(
            "SEED", tmp_path / "SEED", subjects=[1, 2], sessions=[0], seconds=4, seed=0
        ),
        sessions=[0],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        evaluate(CrossSubjectEvaluation, two, tmp_path)
        evaluate(
            WithinSessionEvaluation,
            corpora["SEED"],
            tmp_path,
            groups="trial",
            cv_class=StratifiedGroupKFold,
            n_splits=3,
        )
        Emotion().get_data(corpora["SEED"])


def test_subject_is_known_by_the_raw(corpora):
    raw = corpora["DEAP"].get_data()[1]["0"]["00"]
    assert isinstance(raw, mne.io.BaseRaw)
    assert raw.info["subject_info"]["his_id"] == "1"
    assert isinstance(corpora["DEAP"].trial_table(1), pd.DataFrame)
