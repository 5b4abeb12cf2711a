"""The pre-training objective of MEMHACL, against a slow reference and in use."""

from __future__ import annotations

import math
import warnings

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from braindecode_emossl.augmentation import meiosis
from braindecode_emossl.models import MEMHACL, SCMM
from braindecode_emossl.pretraining import (
    MEMHACLPretraining,
    PretrainingOutput,
    SSLClassifier,
    SSLPretrainer,
)

TYPES = ("eeg", "eeg", "gsr", "resp")
TINY = {"n_filters": (4, 4, 8, 8), "n_hidden": (6,)}


def make_chs_info(types=TYPES):
    return mne.create_info([f"{i}" for i in range(len(types))], 128.0, list(types))[
        "chs"
    ]


def make_objective(types=TYPES, model=None, **kwargs):
    """Build an objective with weights that do not depend on the test order."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = MEMHACL(
            n_outputs=2,
            chs_info=make_chs_info(types),
            n_times=64,
            **{**TINY, **(model or {})},
        )
        return MEMHACLPretraining(encoder, **{"projector_widths": (12, 10), **kwargs})


def make_generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_items(n_items=3, n_windows=4, n_chans=4, seed=0):
    return torch.randn(n_items, n_windows, n_chans, 64, generator=make_generator(seed))


def slow_loss(objective, x, temperature, **settings):
    """Embed every crossed window on its own, then the loss as the equation."""
    normalized = torch.stack([objective.encoder.normalize(item) for item in x])
    embeddings = []
    for group in meiosis(normalized, generator=make_generator(), **settings):
        for item in group:
            windows = []
            for window in item:
                tokens = objective.encoder.encode(window[None])[0]
                windows.append(objective.projector(torch.cat([*tokens])[None])[0])
            largest = [max(values) for values in zip(*windows, strict=True)]
            group_embedding = torch.stack(largest)
            embeddings.append(group_embedding / group_embedding.norm())
    total, n_items = 0.0, len(x)
    for i, own in enumerate(embeddings):
        score = {
            j: math.exp((own @ other).item() / temperature)
            for j, other in enumerate(embeddings)
            if j != i
        }
        partner = (i + n_items) % (2 * n_items)
        total -= math.log(score[partner] / sum(score.values())) / n_items
    return total


@pytest.mark.parametrize("types", [("eeg",) * 4, TYPES])
@pytest.mark.parametrize("group_size", [1, 2, 3])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"axis": "time", "per_item": True}),
        ({"preset": "official"}, {"axis": "channel", "per_item": False}),
        (
            {"preset": "official", "meiosis_axis": "time"},
            {"axis": "time", "per_item": False},
        ),
        ({"meiosis_per_item": False}, {"axis": "time", "per_item": False}),
        (
            {"preset": "official", "meiosis_per_item": True},
            {"axis": "channel", "per_item": True},
        ),
    ],
)
def test_equals_slow_reference(types, group_size, settings, expected):
    objective = make_objective(types, temperature=0.3, **settings).double().eval()
    x = make_items(4, 2 * group_size).double()
    output = objective(x, generator=make_generator())
    assert isinstance(output, PretrainingOutput)
    loss = slow_loss(objective, x, 0.3, **expected)
    assert output.loss.item() == pytest.approx(loss, rel=1e-9)
    assert list(output.terms) == ["contrastive"]
    assert output.terms["contrastive"].item() == output.loss.item()
    assert not output.terms["contrastive"].requires_grad


def test_parameter_count_of_the_official_code():
    encoder = MEMHACL(n_outputs=4, n_chans=32, n_times=128, preset="paper")
    objective = MEMHACLPretraining(encoder)
    count = sum(parameter.numel() for parameter in objective.projector.parameters())
    assert count == 11_023_360
    kinds = [type(layer) for layer in objective.projector]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.Dropout]
    assert kinds == [*hidden, *hidden, nn.Linear]
    assert {layer.p for layer in objective.projector[2::3]} == {0.2}
    assert objective.projector[-1].out_features == 4096


@pytest.mark.parametrize("shared_stack", [False, True])
def test_tokens_of_all_modalities_enter_the_projector(shared_stack):
    objective = make_objective(model={"shared_stack": shared_stack})
    n_tokens = 1 if shared_stack else 3
    assert objective.projector[0].in_features == n_tokens * 8


def test_windows_are_scaled_before_they_are_crossed():
    """Crossed first, the subject of the larger signals would rule both windows."""
    objective = make_objective(("eeg",) * 4).double().eval()
    x = make_items().double()
    windows = x[..., :1, :1]  # (n_items, 2 * group_size, 1, 1)
    gain = torch.logspace(-6, 6, windows.numel(), dtype=x.dtype)
    scaled = x * gain.reshape(windows.shape)
    expected = objective(x, generator=make_generator()).loss.item()
    found = objective(scaled, generator=make_generator()).loss.item()
    assert found == pytest.approx(expected)


def test_only_what_pretraining_uses_gets_a_gradient():
    """Fusion by attention learns in the second stage, with the labels."""
    objective = make_objective()
    objective(make_items()).loss.backward()
    for name, parameter in objective.named_parameters():
        if name.startswith(("encoder.stacks", "projector")):
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        else:
            assert name.startswith(("encoder.fusion", "encoder.final_layer"))
            assert parameter.grad is None, name


@pytest.mark.parametrize("group_size", [1, 2, 3])
def test_plain_windows_are_items_in_a_row(group_size):
    objective = make_objective(group_size=group_size).eval()
    items = make_items(3, 2 * group_size)
    left_over = make_items(1, 2 * group_size - 1, seed=9)[0]
    plain = torch.cat([items.flatten(0, 1), left_over])
    found = objective(plain, generator=make_generator()).loss
    assert torch.equal(found, objective(items, generator=make_generator()).loss)


@pytest.mark.parametrize("is_official", [False, True])
def test_the_generator_decides(is_official):
    objective = make_objective(preset="official" if is_official else "default").eval()
    x = make_items()
    losses = [
        objective(x, generator=make_generator(seed)).loss.item()
        for seed in (0, 0, 1, 2, 3)
    ]
    assert losses[0] == losses[1]
    assert len(set(losses)) > 1


def test_windows_of_several_seconds_get_a_warning():
    """The shipped pipeline ran on windows of 4 s, the paradigm's default."""
    shape = {"n_outputs": 2, "n_chans": 2, "sfreq": 128.0, **TINY}
    for n_times in (512, 128):
        objective = MEMHACLPretraining(MEMHACL(n_times=n_times, **shape))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            objective.prepare(torch.zeros(3, 2, n_times))
        found = ["windows of 4 s: use Emotion(win" in str(w.message) for w in caught]
        assert found == [True] * (n_times == 512)


def test_signals_in_their_units_are_finite():
    """Microvolts, ohm, a constant and silence stand in one array."""
    objective = make_objective(("eeg", "eeg", "gsr", "temperature"))
    x = make_items()
    x[:, :, 1] = 0.0
    x[:, :, 2] = 3e5 + 1e3 * x[:, :, 2]
    x[:, :, 3] = 34.0
    objective.prepare(x.flatten(0, 1))
    output = objective(x)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(
        parameter.grad.isfinite().all()
        for parameter in objective.parameters()
        if parameter.grad is not None
    )


def test_autocast():
    objective = make_objective().eval()
    x = make_items()
    expected = objective(x, generator=make_generator()).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = objective(x, generator=make_generator())
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected, atol=0.5, rtol=0.1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((7, 4, 64), r"at least 8 windows, .* got the shape \(7, 4, 64\)"),
        ((0, 4, 64), "at least two items"),
        ((1, 4, 4, 64), r"at least two items.* got the shape \(1, 4, 4, 64\)"),
        ((4, 64), "at least two items"),
        ((3, 3, 4, 64), "even number of windows in each item"),
        ((3, 4, 5, 64), "n_chans=4, but got"),
    ],
)
def test_forward_rejects(shape, message):
    with pytest.raises(ValueError, match=message):
        make_objective()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "paper"}, "preset must be one of .* got 'paper'"),
        ({"meiosis_axis": "space"}, "meiosis_axis must be .* got 'space'"),
        ({"group_size": 0}, "group_size must be at least 1, but got 0"),
        ({"temperature": 0}, "temperature must be greater than 0"),
        ({"projector_widths": ()}, r"projector_widths must hold .* got \(\)"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_objective(**settings)


@pytest.mark.parametrize("encoder", ["MEMHACL", SCMM(2, 3, n_times=200, sfreq=200)])
def test_encoder_must_be_a_built_model(encoder):
    message = "must be a MEMHACL model, already built, but got"
    with pytest.raises(TypeError, match=message):
        MEMHACLPretraining(encoder)


# -- in use --------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    """Windows (384, 4, 64) of 4 subjects who see 24 stimuli of 4 s, in two classes.

    Subjects share the course of a stimulus; the class is in the frequency of the EEG.
    """
    rng = np.random.default_rng(0)
    rows = [
        {"corpus": "Toy", "subject": subject, "stimulus": f"{stimulus:02d}"}
        | {"trial": stimulus, "window": window}
        for subject in range(4)
        for stimulus in range(24)
        for window in range(4)
    ]
    metadata = pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)
    y = metadata["stimulus"].astype(int).to_numpy() % 2
    seconds = metadata.groupby(["stimulus", "window"]).ngroup().to_numpy()
    course = rng.normal(size=(96, len(TYPES), 64))[seconds]
    time = np.arange(64) / 128
    wave = np.sin(2 * np.pi * np.where(y, 20, 8)[:, None] * time)
    X = 2 * course + rng.normal(size=course.shape)
    X[:, :2] += 4 * wave[:, None]
    return X.astype(np.float32), y, metadata


class Watched(MEMHACLPretraining):
    """Keep the items of each batch."""

    def forward(self, x, generator=None):
        self.__dict__.setdefault("items", []).append(x.clone())
        return super().forward(x, generator)


def test_the_default_sampler_makes_items_of_one_stimulus_second(corpus):
    X, _, metadata = corpus
    model = make_objective().encoder
    objective = Watched(model, projector_widths=(32, 32), drop_prob=0.0)
    pretrainer = SSLPretrainer(
        objective, max_steps=30, lr=1e-2, random_state=0, device="cpu"
    ).fit(X, metadata=metadata)
    losses = pretrainer.history[:, "train_loss"]
    assert losses[-1] < 0.8 * losses[0]
    fusion = pretrainer.module_.encoder.fusion.state_dict()
    for name, tensor in model.fusion.state_dict().items():
        assert torch.equal(tensor, fusion[name]), name
    items = torch.cat(pretrainer.module_.items[:6])  # of the first epoch
    assert items.shape == (96, 4, *X.shape[1:])
    rows = {window.tobytes(): row for row, window in enumerate(X)}
    for item in items.numpy():
        found = metadata.iloc[[rows[window.tobytes()] for window in item]]
        assert found["subject"].is_unique
        assert len(found[["stimulus", "window"]].drop_duplicates()) == 1


def test_batches_hold_the_items_that_a_small_training_set_has(corpus):
    """16 items per batch stopped the training with "n_stimuli must be at most 12".

    Batches keep the lowered number, so that no second comes twice in one of them.
    """
    X, _, metadata = corpus
    rows = (metadata["stimulus"].astype(int) < 3) & (metadata["subject"] < 3)
    objective = Watched(make_objective().encoder, projector_widths=(8, 8))
    pretrainer = SSLPretrainer(
        objective, max_steps=6, sampler__n_batches=3, random_state=0, device="cpu"
    )
    with pytest.warns(UserWarning, match="is lowered from"):
        pretrainer.fit(X[rows], metadata=metadata[rows])
    shapes = [tuple(items.shape[:2]) for items in pretrainer.module_.items]
    assert shapes == [(12, 2)] * 6  # 3 stimuli of 4 s; 3 subjects make one pair


def make_classifier(**settings):
    return SSLClassifier(
        "MEMHACL",
        **{
            "chs_info": make_chs_info(),
            **{f"model__{name}": value for name, value in TINY.items()},
            "objective__projector_widths": (16, 16),
            "pretrain_steps": 6,
            "finetune_steps": 100,
            "batch_size": 16,
            "finetune_lr": 1e-2,
            "random_state": 0,
            "device": "cpu",
            **settings,
        },
    )


def test_it_learns_from_windows_of_several_modalities(corpus):
    X, y, metadata = corpus
    test = (metadata["stimulus"].astype(int) >= 16).to_numpy()
    train = ~test
    classifier = make_classifier(finetune_steps=80)
    classifier.fit(X[train], y[train], metadata=metadata[train])
    assert classifier.pretrainer_.n_steps_ == 6
    assert list(classifier.net_.module_.modalities) == ["eeg", "gsr", "resp"]
    assert classifier.score(X[test], y[test]) > 0.75  # chance is 0.5


@pytest.mark.parametrize("pretrain_steps", [0, 6])
def test_it_learns_from_a_level(corpus, pretrain_steps):
    """The level of skin temperature was removed from every window.

    Weights that are not pre-trained are scaled in the same way.
    """
    _, y, metadata = corpus
    rng = np.random.default_rng(1)
    X = rng.normal(size=(len(y), 2, 64)).astype(np.float32)
    X[:, 1] = 33 + 0.2 * y[:, None] + 0.02 * X[:, 1]
    test = (metadata["stimulus"].astype(int) >= 16).to_numpy()
    classifier = make_classifier(
        chs_info=make_chs_info(("eeg", "temperature")),
        pretrain_steps=pretrain_steps,
        finetune_steps=40,
    ).fit(X[~test], y[~test], metadata=metadata[~test])
    assert classifier.score(X[test], y[test]) > 0.9  # it was 0.5


def test_classifier_is_deterministic_and_takes_epochs(corpus):
    X, y, metadata = corpus
    info = mne.create_info(["0", "1", "2", "3"], 128.0, list(TYPES))
    unit = np.where(np.array(TYPES) == "eeg", 1e-6, 1.0)
    epochs = mne.EpochsArray(X * unit[:, None], info, metadata=metadata)
    settings = {"pretrain_steps": 2, "finetune_steps": 2}
    fitted = [
        make_classifier(**settings).fit(X, y, metadata=metadata) for _ in range(2)
    ]
    expected, again = (classifier.predict_proba(X) for classifier in fitted)
    assert np.array_equal(again, expected)
    classifier = make_classifier(**settings, chs_info=None).fit(epochs, y)
    assert list(classifier.net_.module_.modalities) == ["eeg", "gsr", "resp"]
    np.testing.assert_allclose(classifier.predict_proba(epochs), expected, atol=0.02)


@pytest.mark.gpu
def test_cuda_equals_cpu():
    objective = make_objective().eval()
    x = make_items()
    expected = objective(x, generator=make_generator()).loss
    found = objective.cuda()(x.cuda(), generator=make_generator()).loss
    torch.testing.assert_close(found.cpu(), expected, atol=1e-2, rtol=1e-2)
