"""From corpus to corpus: channels, sampling rate, labels and calibration trials."""

from __future__ import annotations

import numpy as np
import pytest
from mne.decoding import Vectorizer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_emossl.datasets import DEAP, SEED, write_replica
from braindecode_emossl.evaluation import evaluate, read_predictions
from braindecode_emossl.evaluation.tasks import make_tasks
from braindecode_emossl.paradigms import Emotion
from braindecode_emossl.pretraining.windows import join_corpora


def load(task):
    return join_corpora([task.paradigm.get_data(dataset) for dataset in task.corpora])


@pytest.mark.parametrize("protocol", ["cross-corpus", "cross-corpus-finetune"])
def test_each_corpus_tests_once(protocol, toy, toy_b, paradigm, classifier, tmp_path):
    options = {"train_size": 2} if protocol == "cross-corpus-finetune" else {}
    table = evaluate(
        {"a": classifier},
        [toy, toy_b],
        paradigm,
        protocol,
        random_state=0,
        results_dir=tmp_path,
        **options,
    )
    rows = table[["dataset", "subject", "session", "train_corpora", "channels"]]
    assert rows.to_numpy().tolist() == [
        *(["Toy", s, k, "ToyB", 3] for s in ("1", "2", "10") for k in "01"),
        *(["ToyB", s, "0", "Toy", 3] for s in "12"),
    ]
    first = options.get("train_size", 0)
    assert (table["n_trials_test"] == 6 - first).all()
    assert set(read_predictions(tmp_path)["trial"]) == set(range(first, 6))
    n_toy, n_toy_b = 108, 36
    given = np.where(table["dataset"] == "Toy", n_toy_b, n_toy)
    # Both sessions of a subject of Toy calibrate.
    n_sessions = np.where(table["dataset"] == "Toy", 2, 1)
    assert (table["samples"] == given + 3 * first * n_sessions).all()


def test_one_test_corpus(toy, toy_b, paradigm, classifier, tmp_path):
    """Named twice it had every row twice; those asked for before are found again."""
    arguments = {"random_state": 0, "results_dir": tmp_path}
    corpora = [toy, toy_b]
    table = evaluate(
        {"a": classifier},
        corpora,
        paradigm,
        "cross-corpus",
        test_corpora=["ToyB", "ToyB"],
        **arguments,
    )
    assert table["dataset"].tolist() == ["ToyB"] * 2
    (file,) = tmp_path.glob("*/*/*.parquet")
    before = file.stat().st_mtime_ns
    both = evaluate({"a": classifier}, corpora, paradigm, "cross-corpus", **arguments)
    assert len(both) == 8 and file.stat().st_mtime_ns == before


@pytest.mark.parametrize("asked", [["SEED"], "SEED", [], [None]])
def test_unknown_test_corpora(asked, toy, toy_b, paradigm):
    """Of no corpus the table was empty."""
    with pytest.raises(ValueError, match=r"test_corpora must be among \['Toy', 'ToyB'"):
        make_tasks("cross-corpus", {"test_corpora": asked}, [toy, toy_b], paradigm)


def test_channels(toy, toy_b, fast):
    """Common channels in one order, or all with zeros where a corpus has none."""
    paradigm = Emotion(**fast)
    (task,) = make_tasks("cross-corpus", {}, [toy, toy_b], paradigm)
    assert paradigm.channels is None  # the caller's is left alone
    assert list(task.paradigm.channels) == ["Cz", "Pz", "Oz"]
    assert load(task)[0].shape == (144, 3, 5)

    options = {"channels": "union"}
    (task,) = make_tasks("cross-corpus", options, [toy, toy_b], paradigm)
    names = list(task.paradigm.channels)
    assert sorted(names) == ["Cz", "Fz", "Oz", "Pz", "T7"]
    X, _, metadata = load(task)
    of_toy = (metadata["corpus"] == "Toy").to_numpy()
    for name in names:
        known_to = {"Fz": [True], "T7": [False]}.get(name, [True, False])
        for rows, is_toy in ((of_toy, True), (~of_toy, False)):
            values = X[rows][:, names.index(name)]
            assert (values != 0).all() if is_toy in known_to else (values == 0).all()
    with pytest.raises(ValueError, match=r"channel.* must be .*'all'"):
        make_tasks("cross-corpus", {"channels": "all"}, [toy, toy_b], paradigm)


def test_one_sampling_rate(toy, toy_b, fast):
    paradigm = Emotion(**fast | {"features": None})
    (task,) = make_tasks("cross-corpus", {}, [toy, toy_b], paradigm)
    assert task.paradigm.resample == 128.0
    X, _, metadata = load(task)
    assert X.shape == (144, 3, 128)
    assert metadata["corpus"].value_counts().to_dict() == {"Toy": 108, "ToyB": 36}


def test_chosen_channels_of_two_rates(toy, toy_b, fast):
    """The rate was matched only where no channels were chosen."""
    paradigm = Emotion(**fast | {"features": None}, channels=["Cz", "Oz"])
    (task,) = make_tasks("cross-corpus", {}, [toy, toy_b], paradigm)
    assert task.paradigm.channels == ["Cz", "Oz"]
    assert task.paradigm.resample == min(
        toy.sfreq, toy_b.sfreq, paradigm.resample or 1e3
    )
    X, _, metadata = load(task)
    assert X.shape[1] == 2 and set(metadata["corpus"]) == {"Toy", "ToyB"}


def test_chosen_channels_that_one_corpus_lacks(toy, toy_b, fast):
    """``channels="union"`` was ignored where channels were chosen."""
    paradigm = Emotion(**fast, channels=["Fz", "Cz"])  # ToyB has no Fz
    (task,) = make_tasks("cross-corpus", {"channels": "union"}, [toy, toy_b], paradigm)
    X, _, metadata = load(task)
    of_b = (metadata["corpus"] == "ToyB").to_numpy()
    assert not X[of_b, 0].any() and X[~of_b, 0].all() and X[:, 1].all()


def test_subjects_of_two_corpora_are_told_apart(toy, toy_b, fast):
    """Subject 1 of one corpus was taken for subject 1 of the other."""
    Told.subjects = []
    evaluate({"told": Told()}, [toy, toy_b], Emotion(**fast), "cross-corpus")
    assert len(Told.subjects) == 2
    assert all(len(set(s)) == len({str(x) for x in s}) for s in Told.subjects)
    # In each fold the subjects of one corpus train.
    assert sorted(map(len, map(set, Told.subjects))) == [2, 3]


class Told(DummyClassifier):
    """Remembers the subjects it was told of."""

    subjects = []  # noqa: RUF012
    __metadata_request__fit = {"subjects": True}  # noqa: RUF012

    def fit(self, X, y, subjects=None):
        Told.subjects.append(list(subjects))
        return super().fit(X, y)


def test_labels_must_be_those_of_all(seed_root, deap_root):
    corpora = [SEED([1], path=seed_root), DEAP([1], path=deap_root)]
    with pytest.raises(ValueError, match=r"labels must be the same.*\"valence\""):
        make_tasks("cross-corpus", {}, corpora, Emotion())


@pytest.mark.slow
def test_seed_and_deap(tmp_path):
    """Trials of the test subject help; a real pair of layouts and sampling rates."""
    options = {"subjects": [1, 2], "seconds": 4, "seed": 0}
    write_replica("SEED", tmp_path, sessions=[0], effect_size=4, **options)
    write_replica("DEAP", tmp_path, effect_size=15, **options)
    corpora = [
        SEED([1, 2], sessions=[0], path=tmp_path),
        DEAP([1, 2], path=tmp_path),
    ]
    pipeline = make_pipeline(
        Vectorizer(), StandardScaler(), LogisticRegression(C=0.01, max_iter=500)
    )
    scores = {}
    for protocol in ("cross-corpus", "cross-corpus-finetune"):
        table = evaluate(
            {"a": pipeline},
            corpora,
            Emotion("valence", window=1.0, features="de"),
            protocol,
            random_state=0,
        )
        assert len(table) == 4 and (table["n_classes"] == 2).all()
        scores[protocol] = table["score"].mean()
    assert scores["cross-corpus-finetune"] > 0.55
    assert scores["cross-corpus-finetune"] > scores["cross-corpus"]
