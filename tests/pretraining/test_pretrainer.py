"""SSLPretrainer: a skorch net over any objective."""

from __future__ import annotations

import builtins
import copy
import io
import pickle
import warnings

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.samplers import SequenceSampler
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback, LRScheduler, TensorBoard
from skorch.dataset import ValidSplit
from tqdm import tqdm

from braindecode_emossl.models import MEMHACL, SCMM
from braindecode_emossl.pretraining import (
    MEMHACLPretraining,
    PretrainingObjective,
    PretrainingOutput,
    SCMMPretraining,
    SSLPretrainer,
    callbacks,
    load_checkpoint,
)
from braindecode_emossl.pretraining.pretrainer import seeded
from braindecode_emossl.pretraining.state import load_state
from braindecode_emossl.samplers import ContinuityBatchSampler, StimulusGroupSampler

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


def record_rates(pretrainer, X):
    """Train, and return the learning rate of each batch."""
    rates = []

    class Watch(Callback):
        def on_batch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    pretrainer.set_params(callbacks=[Watch()]).fit(X)
    return rates


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


@pytest.mark.parametrize("length", [{"max_epochs": 0}, {"max_steps": 0}])
def test_a_training_of_no_step_only_prepares(X, length):
    objective = make_objective()
    pretrainer = make_pretrainer(objective, **{"max_epochs": None, **length}).fit(X)
    encoder = pretrainer.module_.encoder
    expected = torch.as_tensor(X, dtype=torch.float32).mean(0)
    torch.testing.assert_close(encoder.feature_shift, expected)
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
    twin = clone(pretrainer).set_params(lr=1e-5)
    assert twin.get_params()["optimizer__weight_decay"] == 0.3
    assert (twin.lr, twin.max_epochs, twin.random_state) == (1e-5, 3, 0)
    assert torch.equal(weights(twin.objective), weights(objective))
    twin.fit(X)
    again = pickle.loads(pickle.dumps(twin))
    assert torch.equal(weights(again.module_), weights(twin.module_))


@pytest.mark.parametrize("is_fitted", [False, True])
def test_another_objective_can_be_set(X, is_fitted):
    """Skorch took it for a module that is set outside of an initialize method."""
    pretrainer = make_pretrainer()
    if is_fitted:
        pretrainer.fit(X)
    other = make_objective(seed=1)
    assert pretrainer.set_params(objective=other, lr=1e-3).objective is other
    expected = make_pretrainer(other, lr=1e-3).fit(X)
    assert torch.equal(weights(pretrainer.fit(X).module_), weights(expected.module_))
    with pytest.raises((TypeError, ValueError), match="objective__temperature"):
        make_pretrainer(objective__temperature=0.2).fit(X)


def test_a_pickle_holds_no_windows(X):
    """The windows were pickled too, and those of a corpus are under licence."""
    many = np.concatenate([X] * 50)
    sizes = [len(pickle.dumps(make_pretrainer(max_epochs=1).fit(x))) for x in (X, many)]
    assert sizes[1] - sizes[0] < many.nbytes / 10


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


def make_metadata(n_subjects=5, n_windows=8):
    subject = np.repeat(np.arange(1, n_subjects + 1), n_windows)
    window = np.tile(np.arange(n_windows), n_subjects)
    columns = {"corpus": "Toy", "session": "0", "run": "0", "trial": 2, "stimulus": "a"}
    return pd.DataFrame({"subject": subject, "window": window}).assign(**columns)


def test_the_mean_of_accumulated_gradients_is_that_of_the_whole_batch():
    X = np.random.default_rng(0).normal(size=(22, 2, 3)) * 3
    found = []
    # 22 windows: steps of 8, 8 and 6, the last of which has three batches only.
    for settings in (
        {"batch_size": 8},
        {"batch_size": 2, "gradient_accumulation_steps": 4},
    ):
        pretrainer = SSLPretrainer(
            Mean(),
            max_epochs=1,
            lr=0.1,
            optimizer=torch.optim.SGD,
            iterator_train__shuffle=False,
            iterator_train__drop_last=False,
            **settings,
        ).fit(X)
        found.append(pretrainer.module_.mean.item())
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_gradients_are_clipped_to_the_norm():
    X = np.full((8, 2, 3), 1e3)
    settings = {"max_epochs": 1, "batch_size": 8, "lr": 0.5}
    pretrainer = SSLPretrainer(
        Mean(), optimizer=torch.optim.SGD, gradient_clip_value=0.25, **settings
    ).fit(X)
    assert pretrainer.module_.mean.item() == pytest.approx(0.125)


@pytest.mark.parametrize("length", [{"max_epochs": 6}, {"max_steps": 28}])
def test_the_rate_rises_and_falls_as_the_formula_says(X, length):
    settings = {"max_epochs": None, **length, "warmup_steps": 10, "schedule": "cosine"}
    rates = record_rates(make_pretrainer(Mean(), lr=1.0, **settings), X)
    n_steps = 30 if "max_epochs" in length else 28  # 5 an epoch
    done = np.arange(n_steps)
    falling = 0.5 * (1 + np.cos(np.pi * (done - 10) / (n_steps - 10)))
    expected = np.where(done < 10, (done + 1) / 10, falling)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_the_rate_is_that_of_the_step_not_of_the_batch(X):
    settings = {"max_epochs": 2, "schedule": "cosine", "lr": 1.0}
    settings["gradient_accumulation_steps"] = 2  # 5 batches: steps of 2, 2 and 1
    rates = record_rates(make_pretrainer(Mean(), **settings), X)
    step = np.array([0, 0, 1, 1, 2, 3, 3, 4, 4, 5])
    np.testing.assert_allclose(rates, 0.5 * (1 + np.cos(np.pi * step / 6)))


def test_further_training_has_a_schedule_of_its_own(X):
    """The schedule had ended, so that the learning rate was zero."""
    pretrainer = make_pretrainer(Mean(), max_epochs=2, schedule="cosine", lr=1.0)
    pretrainer.fit(X).partial_fit(X)
    rates = pretrainer.history[:, "lr"]
    assert rates[2:] == rates[:2]
    assert min(rates) > 0


def test_without_a_schedule_the_rate_stays(X):
    history = make_pretrainer(lr=2e-3).fit(X).history
    assert history[:, "lr"] == [2e-3] * 3


def test_a_scheduler_of_the_user_is_not_undone(X):
    """Each batch set the rate back to the first one."""
    scheduler = LRScheduler("ExponentialLR", gamma=0.1)
    pretrainer = make_pretrainer(lr=1e-2, callbacks=[("scheduler", scheduler)]).fit(X)
    rates = pretrainer.history[:, "event_lr"]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4])
    assert pretrainer.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-5)


@pytest.mark.parametrize(("n_valid", "sizes"), [(9, [5, 4]), (5, [5]), (16, [8, 8])])
def test_no_window_that_validates_is_left_out_or_alone(n_valid, sizes):
    """One window was left for the last batch, and SCMM has no contrast within one."""
    X = np.random.default_rng(0).normal(size=(40, N_CHANS, N_BANDS))
    metadata = pd.DataFrame({"subject": np.arange(40) < n_valid})
    for seed in range(20):
        pretrainer = make_pretrainer(validation=0.5, random_state=seed, max_epochs=1)
        pretrainer.fit(X, metadata=metadata)
        if pretrainer.validation_subjects_["subject"][0]:
            batches = pretrainer.history[0, "batches"]
            found = [b["valid_batch_size"] for b in batches if "valid_batch_size" in b]
            assert found == sizes
            return
    pytest.fail("no seed holds out these windows")


def test_epochs_train_as_their_array_in_microvolts(X):
    """They were taken in volts, a million times smaller than in SSLClassifier."""
    info = mne.create_info(N_CHANS, 100.0, "eeg")
    epochs = mne.EpochsArray(X * 1e-6, info, verbose="ERROR")
    losses = [
        make_pretrainer(Mean()).fit(x).history[:, "train_loss"] for x in (X, epochs)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_subjects_who_validate_do_not_train(X):
    metadata = make_metadata()
    objective = Mean()
    pretrainer = SSLPretrainer(
        objective, max_epochs=2, batch_size=8, validation=0.4, random_state=0
    ).fit(X, metadata=metadata)
    held_out = set(pretrainer.validation_subjects_["subject"])
    assert len(held_out) == 2
    assert pretrainer.module_.n_prepared == 24
    is_valid = metadata["subject"].isin(held_out)
    assert pretrainer.history[-1, "valid_loss"] == pytest.approx(
        ((X[is_valid] - pretrainer.module_.mean.item()) ** 2).mean(), rel=1e-5
    )


def test_the_same_number_in_two_corpora_is_two_subjects(X):
    metadata = make_metadata().assign(subject=1, corpus=np.repeat(["A", "B"], 20))
    pretrainer = SSLPretrainer(Mean(), max_epochs=1, batch_size=8, validation=0.5)
    pretrainer.fit(X, metadata=metadata)
    assert len(pretrainer.validation_subjects_) == 1
    assert pretrainer.history[-1, "valid_batch_count"] == 3  # of 20 windows


def test_early_stopping_ends_with_the_best_weights(X):
    """Skorch stops by a KeyboardInterrupt, which was taken for the user's."""

    class Drift(Mean):
        # The second epoch fits the windows best.
        def forward(self, x):
            loss, _ = super().forward(x)
            epoch = len(self.epochs)
            wanted = {1: 3.0, 2: 1.0}.get(epoch, 2.0 + epoch)
            return PretrainingOutput(loss * 0 + wanted + 0 * self.mean, {})

        def on_epoch_begin(self, epoch, X):
            super().on_epoch_begin(epoch, X)
            self.mean.data.fill_(float(epoch))

    pretrainer = SSLPretrainer(
        Drift(), max_epochs=50, batch_size=8, validation=0.4, patience=3, lr=0.0
    ).fit(X, metadata=make_metadata())
    assert len(pretrainer.history) == 5
    assert pretrainer.module_.mean.item() == 1.0


def test_slow_progress_does_not_stop_the_training(X):
    """A loss that fell by less than 0.01 % in an epoch counted as not falling."""

    class Slow(Mean):
        def forward(self, x):
            loss = 1 - 5e-5 * len(self.epochs) + 0 * self.mean
            return PretrainingOutput(loss, {})

    pretrainer = SSLPretrainer(
        Slow(), max_epochs=8, batch_size=8, validation=0.4, patience=2
    ).fit(X, metadata=make_metadata())
    assert len(pretrainer.history) == 8


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ({"max_epochs": 3}, "max_epochs=3 makes only 15 updates"),
        ({"max_epochs": 40}, None),
        ({"max_steps": 15}, None),
    ],
)
def test_few_epochs_that_are_few_updates_are_announced(X, caplog, length, message):
    """50 epochs were 150 updates on a small corpus, which learned next to nothing."""
    SSLPretrainer(Mean(), batch_size=8, random_state=0, **length).fit(X)
    assert (message in caplog.text) if message else not caplog.text


def test_the_duration_of_a_long_training_is_announced(X, caplog):
    class Stop(Callback):
        def on_batch_end(self, net, **kwargs):
            if net.n_steps_ == 12:
                raise RuntimeError("enough")

    pretrainer = SSLPretrainer(
        Mean(), max_steps=20_001, batch_size=8, random_state=0, callbacks=[Stop()]
    )
    with pytest.raises(RuntimeError, match="enough"):
        pretrainer.fit(X)
    assert "makes 20001 updates of about" in caplog.text
    assert "hours. Lower max_steps or batch_size" in caplog.text


def test_the_windows_that_are_not_finite_are_named(X):
    X[13, 2, 1] = np.nan
    pretrainer = SSLPretrainer(Mean(), max_epochs=1, batch_size=8, random_state=0)
    with pytest.raises(FloatingPointError) as caught:
        pretrainer.fit(X, metadata=make_metadata())
    named = "window 13 (corpus Toy, subject 2, session 0, trial 2, window 5)"
    assert f"The values of {named} are not finite" in str(caught.value)
    assert "epoch 1, batch" in str(caught.value)
    assert pretrainer.module_.mean.isfinite()


def test_a_training_that_diverges_is_stopped_with_the_batch_named(X):
    class Explode(Mean):
        def forward(self, x):
            loss = self.mean + torch.inf
            return PretrainingOutput(loss, {"part": torch.tensor(2.0)})

    pretrainer = SSLPretrainer(
        Explode(), batch_size=2, iterator_train__shuffle=False, max_epochs=1
    )
    message = r"inf, with .*'part': 2.0.* epoch 1, batch 1\..*diverged.*window 0; wi"
    with pytest.raises(FloatingPointError, match=message):
        pretrainer.fit(X)
    assert pretrainer.module_.mean.item() == 0.0


def test_gradients_that_are_not_finite_are_stopped_before_they_spoil_the_weights(X):
    """A loss of zero has no slope under a root.

    The loss itself was finite, so that the message named the *next* batch; after the
    last batch there was none, and the trained weights were NaN.
    """

    class Root(Mean):
        def forward(self, x):
            loss = self.mean.abs().sqrt() * x.mean()
            return PretrainingOutput(loss, {"part": loss.detach()})

    pretrainer = SSLPretrainer(Root(), batch_size=64, max_epochs=1)
    with pytest.raises(FloatingPointError, match=r"gradients .* epoch 1, batch 1\."):
        pretrainer.fit(X)
    assert pretrainer.module_.mean.item() == 0.0


def test_a_loss_of_windows_that_validate_is_not_said_to_be_of_a_batch(X):
    """The message named a batch after the last one."""
    metadata = make_metadata()
    X[metadata["subject"] == metadata["subject"].iloc[0]] = np.nan
    for seed in range(20):
        pretrainer = SSLPretrainer(
            Mean(), batch_size=8, max_epochs=1, validation=0.2, random_state=seed
        )
        with pytest.raises(FloatingPointError) as caught:
            pretrainer.fit(X, metadata=metadata)
        if pretrainer.validation_subjects_["subject"][0] == metadata["subject"].iloc[0]:
            assert "epoch 1, validation." in str(caught.value)
            return
    pytest.fail("no seed holds out the first subject")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_weights_of_full_precision(X, precision):
    seen = []

    class Watch(SCMMPretraining):
        def compute_loss(self, views, n_views=2):
            hidden = self.encoder.encode(views)
            seen.append(self.projector(hidden).dtype)
            return super().compute_loss(views, n_views)

    torch.manual_seed(0)
    encoder = make_objective().encoder
    history = make_pretrainer(
        Watch(encoder), precision=precision, max_epochs=5, lr=2e-3
    ).fit(X)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert set(seen) == {dtype}
    assert next(history.module_.parameters()).dtype == torch.float32
    losses = history.history[:, "train_loss"]
    assert losses[-1] < losses[0]


def test_a_sampler_orders_the_windows_and_makes_tuples(X):
    class Shapes(Mean):
        seen = ()

        def forward(self, x):
            Shapes.seen += (tuple(x.shape),)
            return super().forward(x)

    settings = {"max_epochs": 1, "random_state": 0}
    metadata = make_metadata()
    SSLPretrainer(
        Shapes(),
        sampler=StimulusGroupSampler,
        sampler__group_size=2,
        batch_size=3,
        **settings,
    ).fit(X, metadata=metadata)
    assert set(Shapes.seen) == {(3, 4, N_CHANS, N_BANDS)}
    Shapes.seen = ()
    SSLPretrainer(
        Shapes(),
        sampler=ContinuityBatchSampler,
        sampler__n_windows=4,
        batch_size=20,
        **settings,
    ).fit(X, metadata=metadata)
    assert Shapes.seen == ((20, N_CHANS, N_BANDS),) * 2


class Groups(Mean):
    """Keep the windows of each batch, which hold their own numbers."""

    default_sampler = StimulusGroupSampler
    default_batch_size = 3
    sampler_settings = {"group_size": 2}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x[..., 0, 0].numpy().astype(int))
        return super().forward(x)


def make_numbered(metadata):
    return np.arange(len(metadata), dtype=float)[:, None, None] * np.ones((1, 2, 2))


def assert_grouped(batches, metadata):
    for item in np.concatenate(batches):
        rows = metadata.iloc[item]
        assert len(rows[["corpus", "subject"]].drop_duplicates()) == len(item) == 4
        assert len(rows[["corpus", "stimulus", "window"]].drop_duplicates()) == 1


def test_the_objective_brings_its_sampler_and_batch_size():
    """No fold of evaluate used the sampler, so that groups were of shuffled windows."""
    metadata = make_metadata(6)
    pretrainer = SSLPretrainer(Groups(), max_steps=9, random_state=0)
    pretrainer.fit(make_numbered(metadata), metadata=metadata)
    seen = pretrainer.module_.seen
    assert {batch.shape for batch in seen} == {(3, 4)}
    assert_grouped(seen, metadata)


def test_groups_of_subjects_validate_as_they_train():
    """Windows of one trial in a row were contrasted, which is another task.

    All seconds validate, in batches of about one size, the same in each epoch.
    """
    metadata = make_metadata(8, 7)
    pretrainer = SSLPretrainer(Groups(), max_epochs=2, validation=0.5, random_state=0)
    pretrainer.fit(make_numbered(metadata), metadata=metadata)
    held_out = set(pretrainer.validation_subjects_["subject"])
    seen = pretrainer.module_.seen
    validated = [
        batch
        for batch in seen
        if set(metadata["subject"].iloc[batch.ravel()]) <= held_out
    ]
    assert_grouped(seen, metadata)
    n_seconds = len(metadata[["corpus", "stimulus", "window"]].drop_duplicates())
    first, second = np.array_split(np.arange(len(validated)), 2)
    assert sum(len(validated[i]) for i in first) == n_seconds
    assert all(2 <= len(batch) <= 3 for batch in validated)
    for i, j in zip(first, second, strict=True):
        np.testing.assert_array_equal(validated[i], validated[j])


def test_too_few_subjects_to_form_groups_cannot_validate():
    """The training stopped after its first epoch, and asked for a larger batch."""
    metadata = make_metadata(6)
    pretrainer = SSLPretrainer(Groups(), max_epochs=1, validation=0.2)
    message = "^StimulusGroupSampler forms no .* they cannot be used for validation"
    with pytest.raises(ValueError, match=message):
        pretrainer.fit(make_numbered(metadata), metadata=metadata)


def test_the_default_sampler_reads_the_metadata_of_epochs():
    metadata = make_metadata(6)
    info = mne.create_info(2, 100.0, "eeg")
    epochs = mne.EpochsArray(
        make_numbered(metadata) * 1e-6, info, metadata=metadata, verbose="ERROR"
    )
    pretrainer = SSLPretrainer(Groups(), max_steps=4, random_state=0).fit(epochs)
    assert_grouped(pretrainer.module_.seen, metadata)


def test_the_metadata_are_routed_through_a_pipeline():
    """The signature of partial_fit lacked what skorch declares of it."""
    metadata = make_metadata(6)
    pretrainer = SSLPretrainer(Groups(), max_steps=4, random_state=0)
    pipeline = make_pipeline(FunctionTransformer(), pretrainer)
    with config_context(enable_metadata_routing=True):
        pipeline.fit(make_numbered(metadata), metadata=metadata)
    assert_grouped(pretrainer.module_.seen, metadata)


def test_memhacl_groups_subjects_by_stimulus():
    assert MEMHACLPretraining.default_sampler is StimulusGroupSampler
    encoder = MEMHACL(
        n_outputs=2, n_chans=2, n_times=64, sfreq=32, n_filters=(4,) * 4, n_heads=2
    )
    objective = MEMHACLPretraining(encoder, group_size=3, projector_widths=(4, 4))
    pretrainer = SSLPretrainer(objective, max_steps=1)
    metadata = make_metadata(6, 20)
    X = np.random.default_rng(0).normal(size=(len(metadata), 2, 64))
    pretrainer.fit(X, metadata=metadata)
    assert (pretrainer.sampler_.group_size, pretrainer.sampler_.n_stimuli) == (3, 16)
    assert pretrainer.get_batch_size() == 16
    assert pretrainer.set_params(sampler=None).get_batch_size() == 256
    assert pretrainer.set_params(batch_size=5).get_batch_size() == 5


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        (None, r"\['subject', 'stimulus', 'window'\]"),
        (["subject"], r"\['stimulus', 'window'\]"),
        (["subject", "stimulus"], r"\['window'\]"),
    ],
)
def test_missing_columns_stop_with_one_sentence(columns, missing):
    """The sampler's error named columns, but not where they come from."""
    metadata = make_metadata(6)
    X = make_numbered(metadata)
    pretrainer = SSLPretrainer(Groups(), max_steps=1)
    message = f"^Groups .* StimulusGroupSampler, .* {missing}: run .* evaluate, .*"
    with pytest.raises(
        ValueError, match=message + r"return_epochs=True, .*metadata= .*sampler=None"
    ) as error:
        pretrainer.fit(X, metadata=None if columns is None else metadata[columns])
    assert str(error.value).count(". ") == 0
    with pytest.raises(ValueError, match=missing):
        pretrainer.partial_fit(
            X, metadata=None if columns is None else metadata[columns]
        )
    shuffled = pretrainer.set_params(sampler=None).fit(X)
    assert shuffled.module_.seen[0].shape == (len(X),)


def test_a_sampler_of_braindecode_orders_windows_too(X):
    metadata = make_metadata().assign(i_start_in_trial=0)
    pretrainer = SSLPretrainer(
        Mean(),
        sampler=SequenceSampler,
        sampler__n_windows=2,
        sampler__n_windows_stride=2,
        max_epochs=1,
        batch_size=10,
    )
    pretrainer.fit(X, metadata=metadata)
    assert pretrainer.history[0, "batches", :, "train_batch_size"] == [10, 10]
    with pytest.raises(ValueError, match="SequenceSampler, which needs metadata"):
        pretrainer.fit(X)


def test_an_objective_sees_the_metadata_if_it_takes_them(X):
    class Meta(Mean):
        def prepare(self, X, metadata=None):
            self.prepared = X, metadata

        def on_epoch_begin(self, epoch, X, metadata=None):
            self.epochs.append((epoch, X, metadata))

    metadata = make_metadata()
    settings = {"max_epochs": 2, "batch_size": 8, "validation": 0.4, "random_state": 0}
    pretrainer = SSLPretrainer(Meta(), **settings).fit(X, metadata=metadata)
    held_out = pretrainer.validation_subjects_["subject"]
    train = metadata[~metadata["subject"].isin(held_out)].reset_index(drop=True)
    objective = pretrainer.module_
    for windows, found in [objective.prepared, *(e[1:] for e in objective.epochs)]:
        pd.testing.assert_frame_equal(found, train)
        assert len(windows) == len(found) == 24
    assert SSLPretrainer(Meta(), max_steps=1).fit(X).module_.prepared[1] is None


def test_an_objective_that_does_not_learn_the_recordings_warns(X):
    """Without metadata it silently trained as another method."""

    class Recordings(Mean):
        def forward(self, x, recordings=None):
            self.seen = recordings
            return super().forward(x)

    settings = {"max_steps": 2, "batch_size": 8}
    with pytest.warns(UserWarning, match=r"does not know it.* pass metadata="):
        pretrainer = SSLPretrainer(Recordings(), **settings).fit(X)
    assert pretrainer.module_.seen is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrainer.fit(X, metadata=make_metadata())
        SSLPretrainer(Mean(), **settings).fit(X)
    assert len(pretrainer.module_.seen) == 8


def test_another_sampler_can_be_set_after_training(X, tmp_path):
    """Skorch said that something went wrong, and asked for an issue.

    Resuming a training without a sampler then asked for the earlier sampler.
    """
    settings = {"sampler": ContinuityBatchSampler, "sampler__n_windows": 4}
    pretrainer = SSLPretrainer(Mean(), max_epochs=1, batch_size=20, **settings)
    metadata = make_metadata()
    pretrainer.fit(X, metadata=metadata).set_params(sampler__n_windows=2)
    assert pretrainer.fit(X, metadata=metadata).sampler_.n_windows == 2
    pretrainer.set_params(sampler=None, checkpoint_dir=tmp_path).fit(X)
    assert load_state(tmp_path / "state.safetensors")["generators"]["sampler"] is None


def test_samplers_can_be_given_to_the_iterator_as_in_skorch(X):
    order = [[0, 1, 2], [5, 6, 7]]
    pretrainer = SSLPretrainer(Mean(), iterator_train__batch_sampler=order)
    pretrainer.set_params(max_epochs=1).fit(X)
    assert pretrainer.history[-1, "batches", :, "train_batch_size"] == [3, 3]
    pretrainer = SSLPretrainer(Mean(), iterator_train__sampler=[3, 4], max_epochs=1)
    assert len(pretrainer.fit(X).history[-1, "batches"]) == 1


def test_compiled_and_not_are_the_same_training(X):
    compiled = make_pretrainer(compile=True, compile__backend="eager").fit(X)
    plain = make_pretrainer().fit(X)
    assert list(compiled.module_.state_dict()) == list(plain.module_.state_dict())
    torch.testing.assert_close(weights(compiled.module_), weights(plain.module_))


def test_fused_steps_are_those_of_the_plain_optimizer(X):
    fused, plain = (
        SSLPretrainer(Mean(), max_steps=50, lr=0.05, random_state=0, **settings).fit(X)
        for settings in ({}, {"optimizer__fused": False})
    )
    assert [net.optimizer_.defaults["fused"] for net in (fused, plain)] == [True, False]
    torch.testing.assert_close(fused.module_.state_dict(), plain.module_.state_dict())
    other = make_pretrainer(optimizer=torch.optim.RMSprop, max_epochs=1).fit(X)
    assert "fused" not in other.optimizer_.defaults
    loops = make_pretrainer(optimizer__foreach=False, max_epochs=1).fit(X)
    assert not loops.optimizer_.defaults["fused"]


def test_the_bar_shows_the_terms_and_survives_pickling(X, monkeypatch):
    bars = []

    def make_bar(**settings):
        bars.append(tqdm(**{**settings, "disable": False, "file": io.StringIO()}))
        return bars[-1]

    monkeypatch.setattr(callbacks, "tqdm", make_bar)
    pretrainer = make_pretrainer(progress=True).fit(X)
    (bar,) = bars
    assert (bar.n, bar.total) == (15, 15)
    assert "contrastive=" in bar.postfix
    pickle.loads(pickle.dumps(pretrainer))


@pytest.mark.parametrize("is_notebook", [False, True])
def test_bar_in_a_notebook(is_notebook, X, monkeypatch, capsys):
    """A notebook got no bar, as its streams are no terminals."""

    class ZMQInteractiveShell:
        """As the shell of a kernel is called, by which it is recognised."""

    if is_notebook:
        monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    make_pretrainer(progress=True).fit(X)
    shown = capsys.readouterr().err
    assert ("pre-training: 100%|" in shown and "15/15" in shown) == is_notebook
    assert "contrastive=" in shown or not is_notebook


def test_tensorboard_gets_the_terms(X):
    class Writer:
        def __init__(self):
            self.names = set()

        def add_scalar(self, tag, scalar_value, global_step):
            self.names.add(tag)

    writer = Writer()
    make_pretrainer(callbacks=[TensorBoard(writer, close_after_train=False)]).fit(X)
    assert {"Loss/train_contrastive", "Loss/train_reconstruction"} <= writer.names


def test_partial_fit_goes_on_from_the_weights(X):
    objective = Mean()
    pretrainer = SSLPretrainer(objective, max_epochs=2, batch_size=8).fit(X)
    mean = pretrainer.module_.mean.item()
    pretrainer.partial_fit(X)
    assert len(pretrainer.history) == 4
    assert pretrainer.module_.mean.item() != mean
    assert pretrainer.module_.n_prepared == 40  # once


def of_subjects(*subjects):
    return pd.DataFrame({"corpus": "SEED", "subject": np.resize(subjects, 40)})


@pytest.mark.parametrize("further", ["partial_fit", "warm_start"])
def test_further_training_adds_to_the_provenance(X, further, tmp_path):
    """Subjects of a second training were forgotten, and the checkpoint was the old."""
    pretrainer = make_pretrainer(checkpoint_dir=tmp_path / "state")
    pretrainer.fit(X, metadata=of_subjects(1, 2))
    if further == "warm_start":
        pretrainer.set_params(warm_start=True, checkpoint_dir=tmp_path / "other")
        pretrainer.fit(X, metadata=of_subjects(3))
    else:
        pretrainer.partial_fit(X, metadata=of_subjects(3))
    seen = {"corpora": {"SEED": {"subjects": [1, 2, 3]}}, "complete": True}
    assert pretrainer.provenance_ == seen
    saved = load_checkpoint(pretrainer.checkpoint_folder / "trained")
    assert saved.provenance == pretrainer.module_.encoder.provenance == seen
    assert torch.equal(weights(saved), weights(pretrainer.module_))
    pretrainer.partial_fit(X)
    assert not pretrainer.provenance_["complete"]
    pretrainer.set_params(warm_start=False, checkpoint_dir=None)
    pretrainer.fit(X, metadata=of_subjects(4))
    assert pretrainer.provenance_ == {"corpora": {"SEED": {"subjects": [4]}}}
    assert not hasattr(pretrainer.objective.encoder, "provenance")


def test_a_resumed_training_knows_all_that_its_weights_have_seen(X, tmp_path):
    """The state held weights of subjects that the provenance forgot."""
    settings = {"checkpoint_dir": tmp_path, "resume": True}
    first = make_pretrainer(**settings).fit(X, metadata=of_subjects(1, 2))
    n_steps, before = first.n_steps_, weights(first.module_).clone()
    first.partial_fit(X, metadata=of_subjects(3))
    assert not torch.equal(weights(first.module_), before)
    again = make_pretrainer(**settings).fit(X, metadata=of_subjects(1, 2))
    assert again.n_steps_ == n_steps
    assert torch.equal(weights(again.module_), before)
    saved = load_checkpoint(tmp_path / "trained").provenance
    assert saved["corpora"]["SEED"]["subjects"] == [1, 2]


def test_partial_fit_is_seeded(X):
    """It drew from torch's own generator, whatever random_state was."""
    found = []
    for seed in (0, 0, 1):
        pretrainer = make_pretrainer(random_state=seed, max_epochs=2)
        torch.manual_seed(len(found))
        state = torch.get_rng_state()
        found.append(weights(pretrainer.partial_fit(X).partial_fit(X).module_))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_rate_that_is_set_is_that_of_the_next_training(X):
    """A schedule began from the rate of the first training."""
    pretrainer = make_pretrainer(lr=1e-2, warmup_steps=2, schedule="cosine")
    rates = record_rates(pretrainer, X)
    assert max(rates) == pytest.approx(1e-2)
    pretrainer.set_params(lr=1e-3).partial_fit(X)
    assert max(rates[15:]) == pytest.approx(1e-3)


def test_a_rate_that_is_set_after_a_failure_is_used(X):
    """The schedule of the training that had failed went on."""
    rates = []

    class Fail(Callback):
        def on_batch_end(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])
            if len(rates) == 3:
                raise RuntimeError("of the user")

    pretrainer = make_pretrainer(lr=1e-2, schedule="cosine", callbacks=[Fail()])
    with pytest.raises(RuntimeError, match="of the user"):
        pretrainer.fit(X)
    pretrainer.set_params(lr=1e-4).partial_fit(X)
    assert max(rates[3:]) == pytest.approx(1e-4)


def test_epochs_are_reordered_to_the_channels_of_the_model(X):
    """Epochs with other channels were trained on without notice."""
    info = mne.create_info(list("abcdef"), 128.0, "eeg")
    signal = {"n_outputs": 2, "chs_info": info["chs"], "n_times": 64, "sfreq": 128}
    windows = np.random.default_rng(0).normal(size=(16, N_CHANS, 64)) * 1e-5
    epochs = mne.EpochsArray(windows, info, verbose=False)
    pretrainer = make_pretrainer(SCMMPretraining(SCMM(**signal)), max_epochs=1)
    expected = weights(pretrainer.fit(epochs).module_)
    moved = epochs.copy().reorder_channels(list("fbcdea"))
    assert torch.equal(weights(pretrainer.fit(moved).module_), expected)
    assert pretrainer.diagnose(moved)["after"] == pretrainer.diagnose(epochs)["after"]
    renamed = epochs.copy().rename_channels({"f": "x"})
    with pytest.raises(ValueError, match="channels of the model, but f is missing"):
        pretrainer.fit(renamed)
    slow = mne.EpochsArray(
        windows, mne.create_info(list("abcdef"), 64.0, "eeg"), verbose=False
    )
    with pytest.raises(ValueError, match="rate of the model, 128 Hz, but has 64 Hz"):
        pretrainer.partial_fit(slow)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"precision": "int8"}, "precision must be one of"),
        (
            {"gradient_accumulation_steps": 0},
            "gradient_accumulation_steps must be an integer from 1",
        ),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"warmup_steps": 15, "schedule": "cosine"}, "steps of the training, 15"),
        ({"sampler": "stimulus"}, "sampler must be 'auto', None or the class"),
        ({"max_steps": 3}, "max_steps must be .* None if max_epochs is set"),
        ({"max_epochs": -1}, "max_epochs must be None or an integer from 0"),
        ({"max_epochs": "2"}, "max_epochs must be .* but got '2'"),
        ({"gradient_accumulation_steps": 1.5}, "an integer from 1, but got 1.5"),
        ({"validation": "a"}, "validation must be None or a fraction .* got 'a'"),
        ({"batch_size": "large"}, "batch_size must be 'auto' or an integer from 1"),
        ({"batch_size": 64, "iterator_train__drop_last": True}, "fill none"),
        ({"gradient_clip_value": 0}, "gradient_clip_value"),
        ({"validation": 1.0}, "validation"),
        ({"patience": 2}, "with validation"),
        ({"resume": True}, "unless checkpoint_dir"),
        ({"validation": 0.2}, "metadata with a column subject"),
    ],
)
def test_settings_outside_their_range_are_refused(X, settings, message):
    with pytest.raises(ValueError, match=message):
        make_pretrainer(**settings).fit(X)


@pytest.mark.parametrize("objective", [torch.nn.Linear(N_BANDS, 2), SCMMPretraining])
def test_what_is_no_objective_is_named(X, objective):
    """The message was of a missing attribute, or an optimizer without parameters."""
    with pytest.raises(TypeError, match="objective must be a module that returns a"):
        SSLPretrainer(objective).fit(X)


def test_any_module_that_returns_a_loss_is_an_objective(X):
    """One that was not of our base class was refused."""

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.nn.Linear(N_BANDS, 1)

        def forward(self, x):
            return PretrainingOutput(self.encoder(x).square().mean(), {})

    losses = (
        SSLPretrainer(Plain(), max_epochs=3, lr=0.1).fit(X).history[:, "train_loss"]
    )
    assert losses[-1] < losses[0]


def test_validation_needs_two_subjects(X):
    metadata = make_metadata(1, 40)
    with pytest.raises(ValueError, match="of 1 subject"):
        make_pretrainer(validation=0.2).fit(X, metadata=metadata)


def test_the_device_is_found_when_the_net_is_initialized(X):
    """Skorch knows no device "auto": copying or moving a net raised an error."""
    pretrainer = make_pretrainer(Mean())
    for twin in (
        clone(pretrainer),
        copy.deepcopy(pretrainer),
        pickle.loads(pickle.dumps(pretrainer)),
    ):
        assert twin.device == "auto"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fitted = pretrainer.fit(X)
    assert fitted.device == device
    assert fitted.module_.mean.device.type == device
    assert make_pretrainer(Mean(), device="cpu").fit(X).device == "cpu"


@pytest.mark.gpu
def test_training_on_a_gpu_is_seeded_and_stays_there(X):
    pretrainer = make_pretrainer(device="cuda").fit(X)
    assert next(pretrainer.module_.parameters()).is_cuda
    again = make_pretrainer(device="cuda").fit(X)
    torch.testing.assert_close(weights(pretrainer.module_), weights(again.module_))


class Named(PretrainingObjective):
    """Its batch has the name of an argument that only some objectives take."""

    def forward(self, windows):
        loss = self.encoder(windows.flatten(1)).square().mean()
        return PretrainingOutput(loss, {"loss": loss.detach()})


def test_an_objective_may_call_its_batch_windows():
    """It was given the numbers of the windows by the same name."""
    X = np.random.default_rng(0).normal(size=(16, 2, 3)).astype(np.float32)
    objective = Named(torch.nn.Linear(6, 2))
    pretrainer = SSLPretrainer(objective, batch_size=8, max_epochs=1, device="cpu")
    assert len(pretrainer.fit(X).history) == 1
