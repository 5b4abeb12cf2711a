"""The means of DEAP's online ratings, from a list of videos in the release's form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from braindecode_emossl.datasets import DEAP, write_replica
from braindecode_emossl.errors import CorpusFormatError, CorpusNotFoundError
from braindecode_emossl.paradigms import Emotion


def make_list():
    """Return 42 videos of which the first and the last were not in the experiment."""
    numbers = [np.nan, *range(40, 0, -1), np.nan]
    return pd.DataFrame(
        {
            "Online_id": range(1, 43),
            "Experiment_id": pd.array(numbers, "Int64"),
            "Artist": "Beyoncé, feat.",
            "VAQ_Estimate": 1,
            "AVG_Valence": np.linspace(1, 9, 42).round(4),
            "AVG_Arousal": np.linspace(9, 1, 42).round(4),
        }
    )


def write_list(table, folder, encoding="utf-8"):
    folder = folder / "metadata_csv"
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "video_list.csv", index=False, encoding=encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_means_by_experiment_id(tmp_path, encoding):
    videos = make_list()
    write_list(videos, tmp_path, encoding)
    found = DEAP(path=tmp_path).stimulus_table()
    assert found.index.tolist() == [f"{video:02d}" for video in range(1, 41)]
    assert list(found) == ["valence", "arousal"]
    expected = videos.dropna().sort_values("Experiment_id")
    np.testing.assert_array_equal(found["valence"], expected["AVG_Valence"])
    np.testing.assert_array_equal(found["arousal"], expected["AVG_Arousal"])


def test_list_of_videos_is_missing(tmp_path):
    message = f"are in video_list .* but none lies below {tmp_path}. Put it there"
    with pytest.raises(CorpusNotFoundError, match=message):
        DEAP(path=tmp_path).stimulus_table()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="AVG_Valence"), "no header with the .*avg_valence"),
        (lambda t: t[:-5], r"must have each Experiment_id from 1 to 40 once, but has"),
        (lambda t: t.replace({"AVG_Arousal": {9.0: 9.5, 1.0: 0.5}}), None),
        (
            lambda t: t.assign(AVG_Arousal=t["AVG_Arousal"] + 1),
            "means of Experiment_id .* must lie between 1 and 9",
        ),
        (lambda t: t.assign(AVG_Arousal="high"), "column avg_arousal holds 'high'"),
    ],
)
def test_broken_list_of_videos(tmp_path, change, message):
    """Only the videos of the experiment count."""
    write_list(change(make_list()), tmp_path)
    corpus = DEAP(path=tmp_path)
    if message is None:
        assert len(corpus.stimulus_table()) == 40
        return
    with pytest.raises(
        CorpusFormatError, match=f"not video_list as published.*{message}"
    ):
        corpus.stimulus_table()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deap")
    return write_replica("DEAP", folder, subjects=[1], seconds=1, seed=5)


def test_labels_are_those_of_the_list(root, tmp_path):
    """Also from MOABB's disk cache, whose tables make numbers of names."""
    corpus = DEAP([1], path=root)
    without = corpus.fingerprint()
    write_list(make_list(), root)
    online = corpus.stimulus_table()
    paradigm = Emotion(
        "valence", label_source="stimulus", window=1.0, fmin=None, fmax=None
    )
    stores = {"path": str(tmp_path), "save_raw": True, "use": True}
    for cache in (None, stores, stores):
        _, y, metadata = paradigm.get_data(corpus, cache_config=cache)
        of_film = metadata["stimulus"].map(online["valence"])
        assert (y == np.where(of_film > 5, "positive", "negative")).all()
    assert len(set(y)) == 2
    # The list determines labels, so it is part of the contents.
    assert corpus.fingerprint() != without
