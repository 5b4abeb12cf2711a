"""The pre-training objective of MoodReader, against a slow reference."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import torch
from torch import nn

from braindecode_emossl.models import SCMM, MoodReader
from braindecode_emossl.models.mood_reader import make_positions
from braindecode_emossl.pretraining import (
    MoodReaderPretraining,
    PretrainingObjective,
    PretrainingOutput,
    SSLClassifier,
    SSLPretrainer,
)

SMALL = {
    "embed_dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "patch_size": 10,
    "feature_dim": 8,
    "n_feature_heads": 2,
}


def make_objective(encoder=None, **kwargs):
    """Build an objective with weights that do not depend on the test order."""
    settings = {"n_outputs": 3, "n_chans": 4, "n_times": 200, "sfreq": 200, **SMALL}
    sizes = {"decoder_dim": 8, "n_decoder_layers": 1, "n_decoder_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MoodReader(**{**settings, **(encoder or {})})
        return MoodReaderPretraining(model, **{**sizes, **kwargs})


def make_windows(n_windows=6, n_chans=4, n_times=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_windows, n_chans, n_times, generator=generator)


def make_waves(n_windows, seed=0):
    """Return sine waves in noise, whose masked part follows from the visible one."""
    rng = np.random.default_rng(seed)
    time = np.arange(200) / 200
    phase = rng.uniform(0, 6, (n_windows, 1, 1))
    waves = np.sin(2 * np.pi * 5 * time + phase + np.arange(4)[:, None])
    noise = rng.normal(0, 0.1, waves.shape)
    return torch.tensor(20 * (waves + noise), dtype=torch.float32)


def make_noise(n_windows, seed=0):
    """Return white noise that is, in each channel, as loud in all of a window."""
    rng = np.random.default_rng(seed)
    gain = np.exp(rng.normal(0, 0.5, (n_windows, 4, 1)))
    noise = gain * rng.normal(size=(n_windows, 4, 200))
    return torch.tensor(noise, dtype=torch.float32)


def slow_patch(model, samples):
    """Return the patch that (n_chans, 10) samples make."""
    values = samples.T
    if model.patch_domain == "spectrum":
        taper = torch.sin(torch.pi * (torch.arange(10) + 0.5) / 10) ** 2
        values = (torch.fft.rfft(samples * taper).abs() / 10).T
    return ((values - model.signal_scaler.mean) / model.signal_scaler.std).flatten()


def slow_loss(objective, x, mask):
    """Reconstruct window by window and add up the errors patch by patch."""
    model = objective.encoder
    errors = []
    for window, row in zip(x, mask.tolist(), strict=True):
        patches = [slow_patch(model, window[:, i : i + 10]) for i in range(0, 200, 10)]
        places = make_positions(20, 16)
        tokens = [
            model.signal_encoder.projection(patches[n]) + places[n]
            for n in range(20)
            if not row[n]
        ]
        tokens = model.signal_encoder.layers(torch.stack(tokens)[None])[0]
        visible = [*objective.to_decoder(tokens)]
        places = make_positions(20, 8)
        sequence = []
        for n in range(20):
            token = objective.mask_token[0, 0] if row[n] else visible.pop(0)
            sequence.append(token + places[n])
        decoded = objective.decoder(torch.stack(sequence)[None])[0]
        for n in range(20):
            if row[n]:
                target = patches[n]
                if objective.loss.normalize_targets:
                    target = (target - target.mean()) / (
                        target.var(correction=0) + 1e-6
                    ).sqrt()
                errors.append((objective.to_patch(decoded[n]) - target).square().mean())
    return torch.stack(errors).mean()


@pytest.mark.parametrize("patch_domain", ["spectrum", "signal"])
@pytest.mark.parametrize("normalize", [False, True])
def test_compute_loss_equals_slow_reference(patch_domain, normalize):
    encoder = {"patch_domain": patch_domain}
    objective = make_objective(encoder, normalize_targets=normalize).eval()
    x = 20 * make_windows() + 3
    objective.prepare(x)
    mask = objective.sample_mask(6, torch.Generator().manual_seed(0))
    output = objective.compute_loss(x, mask)
    torch.testing.assert_close(output.loss, slow_loss(objective, x, mask))
    torch.testing.assert_close(output.terms["reconstruction"], output.loss.detach())


@pytest.mark.parametrize("mask_ratio", [0.1, 0.33, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("n_times", [100, 200, 333])
def test_sample_mask_masks_exactly_the_rounded_number(mask_ratio, n_times):
    objective = make_objective({"n_times": n_times}, mask_ratio=mask_ratio)
    n_patches = -(-n_times // 10)
    mask = objective.sample_mask(50)
    assert mask.shape == (50, n_patches)
    assert mask.sum(dim=1).tolist() == [round(mask_ratio * n_patches)] * 50
    assert objective.n_masked == round(mask_ratio * n_patches)


def test_defaults_and_presets():
    encoder = MoodReader(n_outputs=3, n_chans=2, n_times=200, sfreq=200, **SMALL)
    objective = MoodReaderPretraining(encoder)
    assert objective.mask_ratio == 0.75
    assert objective.n_masked == 15
    assert not objective.loss.normalize_targets
    assert objective.to_decoder.out_features == 128
    assert [len(objective.decoder), objective.decoder[0].self_attn.num_heads] == [5, 8]
    objective = MoodReaderPretraining(encoder, preset="mind-vis", n_decoder_layers=1)
    assert objective.to_decoder.out_features == 512
    assert [len(objective.decoder), objective.decoder[0].self_attn.num_heads] == [2, 16]


def test_masked_samples_matter_only_as_targets():
    """With fixed predictions the loss moves, but no token that the decoder sees."""
    objective = make_objective().eval()
    x = make_windows()
    mask = objective.sample_mask(6, torch.Generator().manual_seed(0))
    seen = []
    objective.to_decoder.register_forward_hook(
        lambda module, args, output: seen.append(args[0])
    )
    changed = torch.where(mask.repeat_interleave(10, 1)[:, None], 5.0, x)
    first, second = (
        objective.compute_loss(x, mask),
        objective.compute_loss(changed, mask),
    )
    assert torch.equal(*seen)
    assert first.loss != second.loss


def test_mask_tokens_stand_in_the_places_of_masked_patches():
    objective = make_objective({"embed_dim": 8}).eval()
    for name in ("to_decoder", "decoder", "to_patch"):
        setattr(objective, name, nn.Identity())
    objective.positions.zero_()
    mask = objective.sample_mask(6, torch.Generator().manual_seed(0))
    tokens = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    decoded = objective._decode(tokens, mask)
    for window, row in enumerate(mask.tolist()):
        visible = list(tokens[window])
        for place, is_masked in enumerate(row):
            expected = objective.mask_token[0, 0] if is_masked else visible.pop(0)
            assert torch.equal(decoded[window, place], expected)


def test_output():
    objective = make_objective()
    assert isinstance(objective, PretrainingObjective)
    output = objective(make_windows())
    assert isinstance(output, PretrainingOutput)
    assert output.loss.shape == ()
    assert output.terms.keys() == {"reconstruction"}
    assert not output.terms["reconstruction"].requires_grad


def test_gradients_reach_the_signal_branch_and_the_decoder_alone():
    objective = make_objective()
    objective(make_windows()).loss.backward()
    for name, parameter in objective.named_parameters():
        if name.startswith("encoder.") and "signal_encoder" not in name:
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name
            assert parameter.grad.isfinite().all(), name


def test_same_generator_same_loss():
    objective = make_objective().eval()
    x = make_windows()

    def loss(seed):
        return objective(x, torch.Generator().manual_seed(seed)).loss.item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_prepare_fits_the_scaling_of_the_encoder():
    objective = make_objective()
    x = 7 * make_windows(30) - 3
    objective.prepare(x)
    patches = objective.encoder.extract_patches(x)
    assert patches.mean().item() == pytest.approx(0, abs=1e-5)
    assert patches.std().item() == pytest.approx(1, abs=1e-3)


def test_a_single_window_and_odd_lengths():
    objective = make_objective({"n_times": 207})
    assert objective(make_windows(1, n_times=207)).loss.isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    objective = make_objective()
    with torch.autocast("cpu", dtype=dtype):
        output = objective(make_windows())
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()


@pytest.mark.parametrize(
    ("patch_domain", "make", "low", "high"),
    [
        ("signal", make_waves, 0.0, 0.5),
        ("signal", make_noise, 0.98, 1.1),
        ("spectrum", make_noise, 0.0, 0.8),
    ],
)
def test_what_can_be_reconstructed(patch_domain, make, low, high):
    """The visible half of a sine predicts the rest; of noise, only the power.

    Pre-training, which had no target but the samples, learned nothing from noise. The
    bounds are of the loss over that of predicting the mean.
    """
    objective = make_objective(
        {
            "patch_domain": patch_domain,
            "drop_prob": 0.0,
            "embed_dim": 32,
            "patch_size": 20,
        },
        decoder_dim=32,
        mask_ratio=0.5,
    )
    pretrainer = SSLPretrainer(
        objective, max_steps=96, batch_size=32, lr=3e-3, random_state=0
    ).fit(make(256))
    trained, x = pretrainer.module_.eval(), make(64, seed=1)
    mask = trained.sample_mask(64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = trained.compute_loss(x, mask).loss
        for parameter in trained.to_patch.parameters():
            parameter.zero_()
        ratio = (loss / trained.compute_loss(x, mask).loss).item()
    assert low < ratio < high


@pytest.fixture(scope="module")
def multimodal():
    """Epochs of 4 EEG channels and 3 eye features, whose class both of them show."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    X = rng.normal(size=(240, 7, 200)) * 20
    X[:, :4] *= np.array([0.5, 1.0, 2.0])[y][:, None, None]
    X[:, 4:] = (rng.normal(size=(240, 3)) + y[:, None])[..., None]
    types = ["eeg"] * 4 + ["misc"] * 3
    info = mne.create_info(["F3", "F4", "O1", "O2", "a", "b", "c"], 200.0, types)
    units = np.where(np.array(types) == "eeg", 1e-6, 1.0)[:, None]
    return mne.EpochsArray(X * units, info, verbose="ERROR"), y


def test_pretrained_it_beats_chance_with_eye_features(multimodal):
    epochs, y = multimodal
    classifier = SSLClassifier(
        "MoodReader",
        **{f"model__{name}": value for name, value in SMALL.items()},
        objective__decoder_dim=16,
        objective__n_decoder_heads=2,
        pretrain_steps=15,
        finetune_steps=40,
        batch_size=32,
        finetune_lr=3e-3,
        random_state=0,
    ).fit(epochs[:180], y[:180])
    losses = classifier.pretrainer_.history_[:, "train_loss"]
    assert losses[-1] < losses[0]
    assert classifier.net_.module_.n_eye_chans == 3
    assert classifier.score(epochs[180:], y[180:]) > 0.6  # chance is 0.33


@pytest.mark.parametrize(
    ("encoder", "settings", "message"),
    [
        ({}, {"preset": "paper"}, "preset must be one of .* got 'paper'"),
        ({}, {"mask_ratio": 1.2}, r"mask_ratio must be in the interval \[0, 1\]"),
        ({}, {"mask_ratio": 1.0}, "masks 20 of 20"),
        ({}, {"mask_ratio": 0.0}, "masks 0 of 20"),
        ({"patch_size": 200}, {}, "masks 1 of 1. Change it, or use longer windows"),
        ({}, {"decoder_dim": 9}, "decoder_dim must be even and a multiple of"),
    ],
)
def test_constructor_rejects(encoder, settings, message):
    with pytest.raises(ValueError, match=message):
        make_objective(encoder, **settings)


def test_encoder_must_be_a_mood_reader():
    with pytest.raises(TypeError, match="already built, but got 'MoodReader'"):
        MoodReaderPretraining("MoodReader")
    other = SCMM(n_outputs=2, n_chans=2, n_times=200, sfreq=200)
    with pytest.raises(TypeError, match="must be a MoodReader model"):
        MoodReaderPretraining(other)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(6, 20, dtype=torch.bool), "at least one masked patch"),
        (torch.ones(6, 20, dtype=torch.bool), "at least one, visible"),
        (torch.zeros(6, 19, dtype=torch.bool), r"= \(6, 20\), but got"),
    ],
)
def test_compute_loss_rejects(mask, message):
    with pytest.raises(ValueError, match=message):
        make_objective().compute_loss(make_windows(), mask)


@pytest.mark.gpu
def test_cuda():
    objective = make_objective().eval()
    x, generator = make_windows(), torch.Generator()
    expected = objective(x, generator.manual_seed(0)).loss
    found = objective.cuda()(x.cuda(), generator.manual_seed(0)).loss
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-4)
