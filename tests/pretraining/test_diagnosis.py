"""Tests of the comparison of features before and after pre-training."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from braindecode_emossl.models import MEMHACL, SCMM
from braindecode_emossl.pretraining import (
    MEMHACLPretraining,
    PretrainingObjective,
    PretrainingOutput,
    SCMMPretraining,
    SSLPretrainer,
)
from braindecode_emossl.pretraining.diagnosis import diagnose_features


def make_table(n_subjects=4, n_trials=6, n_windows=5):
    """Return metadata in which each subject sees the same stimuli, and labels."""
    index = pd.MultiIndex.from_product(
        [range(n_subjects), range(n_trials), range(n_windows)],
        names=["subject", "trial", "window"],
    )
    table = index.to_frame(index=False)
    return table.assign(stimulus=table["trial"]), (table["trial"] % 2).to_numpy()


def test_rank_is_the_participation_ratio(rng):
    features = rng.normal(size=(4000, 6)) * [3, 3, 3, 0, 0, 0]
    assert diagnose_features(features, None)["rank"] == pytest.approx(3, rel=0.01)
    assert diagnose_features(np.ones((10, 3)), None)["rank"] == 0
    wide = features @ rng.normal(size=(6, 5000))
    assert 1 < diagnose_features(wide[:200], None)["rank"] <= 3.01


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("known", ["subject", "stimulus", "label"])
def test_probes_read_what_the_features_hold(rng, known):
    table, y = make_table()
    code = y if known == "label" else table[known].to_numpy()
    features = np.eye(code.max() + 1)[code] + 0.1 * rng.normal(
        size=(len(code), code.max() + 1)
    )
    found = diagnose_features(features, table, y)
    assert found[known] > 0.95
    chance = {"subject": 1 / 4, "stimulus": 1 / 6, "label": 1 / 2}
    # Stimuli tell their label, as in the real corpora.
    for name in {"subject", "stimulus"} - {known}:
        if (known, name) != ("label", "stimulus"):
            assert found[name] < chance[name] + 0.2


def test_features_of_the_subject_alone_read_labels_at_chance(rng):
    """They scored below it: a subject has fewer other trials of a trial's class."""
    table, _ = make_table(n_subjects=15, n_windows=4)
    y = (table["trial"] % 3).to_numpy()
    of_subject = 3 * rng.normal(size=(15, 32))[table["subject"]]
    found = diagnose_features(of_subject + rng.normal(size=of_subject.shape), table, y)
    assert found["label"] == pytest.approx(1 / 3, abs=0.07)


def test_what_is_not_known_is_not_probed(rng):
    table, y = make_table()
    features = rng.normal(size=(len(y), 3))
    found = diagnose_features(features, table.drop(columns="stimulus"))
    assert np.isfinite(found["subject"])
    assert np.isnan([found["stimulus"], found["label"]]).all()
    assert np.isnan(list(diagnose_features(features, None).values())[1:]).all()


def test_features_that_are_not_finite_have_no_rank(rng):
    table, y = make_table()
    features = rng.normal(size=(len(y), 3))
    features[4, 1] = np.nan
    assert np.isnan(list(diagnose_features(features, table, y).values())).all()


def test_groups_of_windows_are_trained_on_but_not_diagnosed(rng):
    """The training was lost at its end, as the encoder takes single windows."""
    torch.manual_seed(0)
    model = MEMHACL(n_outputs=2, n_chans=4, n_times=64, sfreq=64)
    X = rng.normal(size=(8, 4, 4, 64)).astype(np.float32)  # of 4 windows each
    pretrainer = SSLPretrainer(
        MEMHACLPretraining(model), sampler=None, max_steps=1, batch_size=4
    ).fit(X)
    assert "before_rank" not in pretrainer.history[-1]


def make_scmm():
    torch.manual_seed(0)
    model = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    return SCMMPretraining(model)


def test_the_history_holds_the_diagnosis(rng):
    table, y = make_table()
    X = rng.normal(size=(len(y), 4, 5)).astype(np.float32)
    pretrainer = SSLPretrainer(
        make_scmm(), max_steps=4, batch_size=16, random_state=0
    ).fit(X, metadata=table)
    found = pretrainer.diagnose(X, table, y)
    for stage in ("before", "after"):
        for name in ("rank", "subject", "stimulus"):
            recorded = pretrainer.history[-1, f"{stage}_{name}"]
            assert recorded == pytest.approx(found[stage][name])
        assert np.isfinite(found[stage]["label"])
        assert f"{stage}_label" not in pretrainer.history[-1]
    assert found["before"] != found["after"]


def test_the_features_before_are_those_of_the_initial_weights(rng):
    table, _ = make_table()
    X = rng.normal(size=(len(table), 4, 5)).astype(np.float32)
    pretrainer = SSLPretrainer(make_scmm(), max_steps=1, lr=0.0, batch_size=16)
    found = pretrainer.fit(X, metadata=table).diagnose(X, table)
    model = make_scmm().encoder.eval()
    model.fit_normalization(torch.from_numpy(X))
    with torch.no_grad():
        features = model(torch.from_numpy(X), return_features=True)["features"]
    expected = diagnose_features(features.numpy(), table)
    assert found["before"] == pytest.approx(expected, nan_ok=True)


class Encoder(nn.Module):
    """Features that a training can turn into the name of the subject."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(3, 3, bias=False)
        nn.init.zeros_(self.map.weight)

    def forward(self, x, return_features=False):
        x = x.flatten(1)
        return {"features": x[:, :3] + self.map(x[:, 3:])}


class Pull(PretrainingObjective):
    """Draw the map to given weights."""

    def __init__(self, weight, scale=1.0):
        super().__init__(Encoder())
        self.register_buffer("weight", weight)

    def forward(self, x):
        loss = (self.encoder.map.weight - self.weight).square().sum()
        return PretrainingOutput(loss, {"distance": loss.detach()})


def train_encoder(X, table, weight):
    SSLPretrainer(
        Pull(weight),
        max_steps=300,
        lr=0.1,
        batch_size=16,
        optimizer=torch.optim.SGD,
        random_state=0,
    ).fit(X, metadata=table)


def test_features_that_learn_to_tell_the_subject_are_named(rng, caplog):
    table, _ = make_table()
    X = rng.normal(size=(len(table), 2, 3)).astype(np.float32)
    X[:, 1] = np.eye(4)[table["subject"]][:, :3]
    with caplog.at_level(logging.WARNING):
        train_encoder(X, table, torch.zeros(3, 3))
        assert not caplog.records
        train_encoder(X, table, 50 * torch.eye(3))
    assert "a linear probe identifies the subject" in caplog.text


def test_features_that_collapse_are_named(rng, caplog):
    table, _ = make_table()
    X = rng.normal(size=(len(table), 2, 3)).astype(np.float32)
    weight = torch.zeros(3, 3)
    weight[0, 0] = 50.0
    with caplog.at_level(logging.WARNING):
        train_encoder(X, table, weight)
    assert "they have collapsed" in caplog.text


def test_a_model_without_features_is_refused():
    class Mean(PretrainingObjective):
        def __init__(self):
            super().__init__(nn.Identity())
            self.mean = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            loss = (x - self.mean).square().mean()
            return PretrainingOutput(loss, {"loss": loss.detach()})

    X = np.ones((8, 2, 3), np.float32)
    pretrainer = SSLPretrainer(Mean(), max_steps=1, batch_size=4)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        pretrainer.diagnose(X)
    pretrainer.fit(X)
    with pytest.raises(TypeError, match="Identity cannot be diagnosed"):
        pretrainer.diagnose(X)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[8, 3\]"):
        pretrainer.diagnose(X, y=[0, 1, 1])
