"""SSLPretrainer: a skorch net over any objective."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit

from braindecode_emossl.models import SCMM
from braindecode_emossl.pretraining import (
    PretrainingObjective,
    PretrainingOutput,
    SCMMPretraining,
    SSLPretrainer,
)
from braindecode_emossl.pretraining.pretrainer import seeded

N_CHANS, N_BANDS = 6, 5


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    # Two kinds of window, as a structure that can be learned.
    kinds = rng.integers(0, 2, 40)[:, None, None] * np.linspace(0, 3, N_BANDS)
    return kinds + rng.normal(size=(40, N_CHANS, N_BANDS))


def make_objective(seed=0):
    torch.manual_seed(seed)
    model = SCMM(n_outputs=2, n_chans=N_CHANS, n_times=N_BANDS, input_domain="de")
    return SCMMPretraining(model)


def make_pretrainer(objective=None, **settings):
    settings = {"max_epochs": 3, "batch_size": 8, "random_state": 0, **settings}
    return SSLPretrainer(objective or make_objective(), **settings)


def weights(module):
    return torch.cat([tensor.flatten() for tensor in module.state_dict().values()])


class Mean(PretrainingObjective):
    """Learn the mean of the windows; the simplest objective there is."""

    def __init__(self):
        super().__init__(torch.nn.Identity())
        self.mean = torch.nn.Parameter(torch.zeros(()))
        self.n_prepared = 0

        self.epochs = []

    def prepare(self, X):
        self.n_prepared += len(X)

    def on_epoch_begin(self, epoch, X):
        self.epochs.append((epoch, self.n_prepared, len(X)))

    def forward(self, x):
        loss = ((x - self.mean) ** 2).mean()
        return PretrainingOutput(loss, {"size": torch.tensor(float(len(x)))})


def test_any_objective_is_trained_to_its_minimum():
    X = np.full((64, 2, 3), 2.5)
    pretrainer = SSLPretrainer(
        Mean(), max_epochs=200, batch_size=32, lr=0.05, optimizer__weight_decay=0
    ).fit(X)
    assert pretrainer.module_.mean.item() == pytest.approx(2.5, abs=1e-2)


def test_loss_falls_and_terms_are_recorded(X):
    history = make_pretrainer(max_epochs=30, lr=2e-3).fit(X).history
    losses = history[:, "train_loss"]
    assert losses[-1] < 0.8 * losses[0]
    for name in ("train_contrastive", "train_reconstruction"):
        batches = history[-1, "batches", :, name]
        assert history[-1, name] == pytest.approx(np.mean(batches))


def test_epoch_terms_are_weighted_by_batch_size():
    X = np.zeros((10, 2, 3))
    pretrainer = SSLPretrainer(
        Mean(), max_epochs=1, batch_size=8, iterator_train__drop_last=False
    ).fit(X)
    assert pretrainer.history[-1, "train_size"] == pytest.approx((8 * 8 + 2 * 2) / 10)


@pytest.mark.parametrize(
    ("n_windows", "sizes"), [(5, [5]), (8, [8]), (20, [8, 8]), (9, [8])]
)
def test_a_last_batch_counts_only_if_it_is_the_only_one(n_windows, sizes):
    pretrainer = SSLPretrainer(Mean(), max_epochs=1, batch_size=8)
    pretrainer.fit(np.zeros((n_windows, 2, 3)))
    assert pretrainer.history[0, "batches", :, "train_batch_size"] == sizes


def test_the_objective_is_prepared_once_with_all_training_windows():
    pretrainer = SSLPretrainer(Mean(), max_epochs=4, batch_size=8)
    pretrainer.fit(np.zeros((20, 2, 3)))
    assert pretrainer.module_.n_prepared == 20


def test_the_objective_hears_of_each_epoch_after_it_is_prepared():
    pretrainer = SSLPretrainer(Mean(), max_epochs=3, batch_size=8)
    pretrainer.fit(np.zeros((20, 2, 3)))
    assert pretrainer.module_.epochs == [(0, 20, 20), (1, 20, 20), (2, 20, 20)]


def test_what_is_held_out_is_not_among_the_windows_of_an_epoch():
    """Clusters that are fitted between epochs must not see validation windows."""
    split = ValidSplit(4, stratified=False)
    pretrainer = SSLPretrainer(Mean(), max_epochs=1, batch_size=5, train_split=split)
    pretrainer.fit(np.zeros((20, 2, 3)))
    assert [n_windows for _, _, n_windows in pretrainer.module_.epochs] == [15]


def test_an_epoch_needs_nothing_of_an_objective():
    objective = PretrainingObjective(torch.nn.Identity())
    assert objective.on_epoch_begin(0, np.zeros((20, 2, 3))) is None


def test_no_epoch_only_prepares(X):
    objective = make_objective()
    encoder = make_pretrainer(objective, max_epochs=0).fit(X).module_.encoder
    expected = torch.as_tensor(X, dtype=torch.float32).amin(0)
    torch.testing.assert_close(encoder.feature_min, expected)
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter, objective.encoder.get_parameter(name))


def test_the_given_objective_stays_as_it_was(X):
    objective = make_objective()
    before = weights(objective)
    pretrainer = make_pretrainer(objective).fit(X)
    assert torch.equal(weights(objective), before)
    assert not torch.equal(weights(pretrainer.module_), before)


def test_same_seed_same_weights_also_on_a_second_fit(X):
    first = make_pretrainer().fit(X)
    found = weights(first.module_)
    assert torch.equal(found, weights(make_pretrainer().fit(X).module_))
    assert torch.equal(found, weights(first.fit(X).module_))
    other = make_pretrainer(random_state=1).fit(X)
    assert not torch.equal(found, weights(other.module_))


def test_the_global_generators_are_left_as_they_were(X):
    objective = make_objective()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    make_pretrainer(objective).fit(X)
    drawn = torch.rand(3), np.random.random(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    assert torch.equal(drawn[0], torch.rand(3))
    assert np.array_equal(drawn[1], np.random.random(3))  # noqa: NPY002


def test_seeded_gives_the_generator_back_after_an_error():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with pytest.raises(KeyError), seeded(0, "cpu"):
        torch.rand(10)
        raise KeyError
    assert torch.equal(torch.rand(1), expected)


def test_clone_set_params_and_pickle(X):
    objective = make_objective()
    pretrainer = make_pretrainer(objective, optimizer__weight_decay=0.3)
    copy = clone(pretrainer).set_params(lr=1e-5)
    assert copy.get_params()["optimizer__weight_decay"] == 0.3
    assert (copy.lr, copy.max_epochs, copy.random_state) == (1e-5, 3, 0)
    assert torch.equal(weights(copy.objective), weights(objective))
    copy.fit(X)
    again = pickle.loads(pickle.dumps(copy))
    assert torch.equal(weights(again.module_), weights(copy.module_))


def test_a_callback_of_skorch_sees_the_terms_of_the_epoch(X):
    class Watch(Callback):
        def on_train_begin(self, net, **kwargs):
            self.seen_ = []

        def on_epoch_end(self, net, **kwargs):
            self.seen_.append(net.history[-1, "train_contrastive"])

    pretrainer = make_pretrainer(callbacks=[("watch", Watch())]).fit(X)
    assert len(dict(pretrainer.callbacks_)["watch"].seen_) == 3


def test_an_unknown_argument_is_named(X):
    with pytest.raises(ValueError, match="did you mean iterator_train__shuffle"):
        make_pretrainer(iterator_train_shuffle=True).fit(X)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_is_seeded_and_stays_there(X):
    pretrainer = make_pretrainer(device="cuda").fit(X)
    assert next(pretrainer.module_.parameters()).is_cuda
    again = make_pretrainer(device="cuda").fit(X)
    torch.testing.assert_close(weights(pretrainer.module_), weights(again.module_))
