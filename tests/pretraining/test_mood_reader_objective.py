"""The pre-training objective of MoodReader, against a slow reference."""

from __future__ import annotations

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from braindecode_emossl.datasets import SEED_IV, write_replica
from braindecode_emossl.evaluation import (
    EEGBandFeatures,
    evaluate,
    load_pipelines,
    pipelines_folder,
)
from braindecode_emossl.features import differential_entropy
from braindecode_emossl.models import SCMM, MoodReader
from braindecode_emossl.models.mood_reader import make_positions
from braindecode_emossl.paradigms import Emotion
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


#: Eye features on both sides of the EEG.
MIXED = mne.create_info(
    ["pupil", "Fz", "Cz", "fixation", "Pz", "saccade"],
    200.0,
    ["misc", "eeg", "eeg", "misc", "eeg", "misc"],
)["chs"]
WITH_EYES = {"chs_info": MIXED, "n_chans": None, "n_times": 400}


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


def slow_patches(objective, window, row, standardize):
    """Return the errors of the masked patches, and the tokens of the visible ones."""
    model = objective.encoder
    n_patches = len(row)
    patches = [
        slow_patch(model, window[:, 10 * n : 10 * n + 10]) for n in range(len(row))
    ]
    places = make_positions(n_patches, 16)
    tokens = [
        model.signal_encoder.projection(patches[n]) + places[n]
        for n in range(n_patches)
        if not row[n]
    ]
    tokens = model.signal_encoder.layers(torch.stack(tokens)[None])[0]
    visible = [*objective.to_decoder(tokens)]
    places = make_positions(n_patches, 8)
    sequence = []
    for n in range(n_patches):
        token = objective.mask_token[0, 0] if row[n] else visible.pop(0)
        sequence.append(token + places[n])
    decoded = objective.decoder(torch.stack(sequence)[None])[0]
    errors = []
    for n in range(n_patches):
        if row[n]:
            target = standardize("patches", patches[n])
            if objective.loss.normalize_targets:
                target = (target - target.mean()) / (
                    target.var(correction=0) + 1e-6
                ).sqrt()
            errors.append((objective.to_patch(decoded[n]) - target).square().mean())
    return errors, tokens


def slow_entropy(model, window, row, token):
    """Return the scaled DE of a window, and its levels with masked tokens."""
    encoder = model.feature_encoder
    entropy = differential_entropy(window[None], 200, window=1.0, method="fft")[0]
    entropy = (entropy - model.entropy_scaler.mean) / model.entropy_scaler.std
    n_steps, n_chans, _ = entropy.shape
    tokens = torch.zeros(n_steps, n_chans, 8)
    for step in range(n_steps):
        for chan in range(n_chans):
            value = (
                token if row[step][chan] else encoder.projection(entropy[step, chan])
            )
            place = encoder.step_embedding[step, 0] + encoder.channel_embedding[chan]
            tokens[step, chan] = value + place
    levels = []
    for layer, filters in zip(encoder.layers, encoder.spatial_filters, strict=True):
        tokens = layer(tokens[None])[0]
        levels.append(sum(tokens.mean(dim=0)[c] * filters[c] for c in range(n_chans)))
    return entropy, levels


def slow_eye(model, window, row, fused):
    """Return the scaled eye features of a window, and the fusion with visible ones."""
    fusion, scaler = model.eye_fusion, model.eye_scaler
    values, tokens = [], []
    for step, hidden in enumerate(row):
        means = window[:, 200 * step : 200 * step + 200].mean(dim=1)
        values.append((means - scaler.mean) / scaler.std)
        hidden = torch.tensor(hidden)
        shown = torch.where(hidden, 0.0, values[-1])
        tokens.append(fusion.tokens(torch.cat([shown, hidden.float()])))
    tokens = torch.stack(tokens)
    shares = torch.stack([fusion.score(token)[0] for token in tokens]).softmax(dim=0)
    pooled = sum(share * token for share, token in zip(shares, tokens, strict=True))
    gate = fusion.gate(torch.cat([fused, pooled])).sigmoid()
    attended = fusion.attention(fused[None, None], tokens[None])[0, 0]
    return torch.stack(values), gate * fused + (1 - gate) * pooled + attended


def keep(name, values):
    """Return targets as they are."""
    return values


def slow_terms(objective, x, masks, standardize=keep):
    """Reconstruct window by window and average the errors of all masked values."""
    model = objective.encoder
    errors = {"patches": [], "entropy": [], "eye": []}
    for window, *rows in zip(x, *(mask.tolist() for mask in masks), strict=True):
        eeg, eye = window[model.eeg_chans], window[model.eye_chans]
        found, tokens = slow_patches(objective, eeg, rows[0], standardize)
        errors["patches"] += found
        entropy, levels = slow_entropy(model, eeg, rows[1], objective.entropy_token)
        fused = model.merge(torch.cat([tokens.mean(dim=0), levels[-1]]))
        if model.n_eye_chans:
            values, fused = slow_eye(model, eye, rows[2], fused)
        features = torch.cat([*levels, fused])
        entropy = standardize("entropy", entropy)
        found = objective.to_entropy(features).view(entropy.shape)
        errors["entropy"] += [
            (found[place] - entropy[place]).square().mean()
            for place in map(tuple, torch.tensor(rows[1]).nonzero().tolist())
        ]
        if model.n_eye_chans:
            values = standardize("eye", values)
            found = objective.to_eye(features).view(values.shape)
            errors["eye"] += [
                (found[place] - values[place]).square()
                for place in map(tuple, torch.tensor(rows[2]).nonzero().tolist())
            ]
    return {name: torch.stack(part).mean() for name, part in errors.items() if part}


@pytest.mark.parametrize("encoder", [{}, WITH_EYES, {"patch_domain": "signal"}])
@pytest.mark.parametrize("normalize", [None, "patch"])
def test_compute_loss_equals_slow_reference(encoder, normalize):
    objective = make_objective(
        encoder, normalize_targets=normalize, entropy_weight=0.7, eye_weight=3.0
    ).eval()
    model = objective.encoder
    x = 20 * make_windows(6, model.n_chans, model.n_times) + 3
    objective.prepare(x)
    masks = objective.sample_masks(6, torch.Generator().manual_seed(0))
    output = objective.compute_loss(x, *masks)
    expected = slow_terms(objective, x, masks)
    torch.testing.assert_close(output.terms, expected, rtol=1e-4, atol=1e-5)
    total = expected["patches"] + 0.7 * expected["entropy"]
    total = total + 3.0 * expected["eye"] if model.n_eye_chans else total
    torch.testing.assert_close(output.loss, total, rtol=1e-4, atol=1e-5)


def make_recordings(encoder=None, **kwargs):
    """Return a prepared objective, and windows of two recordings of unequal level."""
    objective = make_objective(encoder, **kwargs)
    model = objective.encoder
    x = 20 * make_windows(8, model.n_chans, model.n_times) + 3
    x[4:] = 5 * x[4:] - 7
    metadata = pd.DataFrame({"subject": [1] * 4 + [2] * 4, "session": "0"})
    objective.prepare(x, metadata)
    return objective, x, torch.tensor([0] * 4 + [1] * 4)


@pytest.mark.parametrize("encoder", [{}, WITH_EYES, {"patch_domain": "signal"}])
def test_targets_are_standardised_within_their_recording(encoder):
    objective, x, recordings = make_recordings(encoder)
    objective.eval()
    inputs = objective._extract(x)
    masks = objective.sample_masks(8, torch.Generator().manual_seed(0))
    output = objective.compute_loss(x, *masks, recordings=recordings)
    terms = []
    for rows in (slice(4), slice(4, 8)):

        def standardize(name, values, rows=rows):
            std, mean = torch.std_mean(inputs[name][rows], (0, 1), correction=0)
            flat = mean.flatten() if name == "patches" else mean
            return (values - flat) / std.clamp_min(0.1)

        part = [mask[rows] for mask in masks]
        terms.append(slow_terms(objective, x[rows], part, standardize))
    # As many values are masked in each window.
    expected = {name: (terms[0][name] + terms[1][name]) / 2 for name in terms[0]}
    torch.testing.assert_close(output.terms, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("encoder", [{}, WITH_EYES])
def test_windows_are_moved_between_recordings(encoder):
    objective, x, recordings = make_recordings(encoder)
    masks = objective.sample_masks(8, torch.Generator().manual_seed(0))

    def loss(others, share):
        moves = None if others is None else (others, torch.full((8,), share))
        return objective.compute_loss(
            x, *masks, recordings=recordings, moves=moves
        ).loss

    objective.eval()
    plain = loss(None, 0.0)
    torch.testing.assert_close(loss(recordings, 1.0), plain)
    torch.testing.assert_close(loss(1 - recordings, 0.0), plain)
    assert abs(loss(1 - recordings, 1.0) - plain) > 1e-3
    # The targets stay those of the recording itself.
    objective.to_patch.weight.data.zero_()
    objective.to_entropy.weight.data.zero_()
    if objective.encoder.n_eye_chans:
        objective.to_eye.weight.data.zero_()
    torch.testing.assert_close(loss(1 - recordings, 1.0), loss(None, 0.0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_windows_are_moved_in_other_precisions(dtype):
    """Shares in single precision could not be mixed with them."""
    objective, x, recordings = make_recordings(WITH_EYES)
    objective.to(dtype).train()
    assert objective(x.to(dtype), recordings=recordings).loss.isfinite()


def test_windows_are_moved_in_training_alone():
    objective, x, recordings = make_recordings({"drop_prob": 0.0})

    def loss(recordings):
        generator = torch.Generator().manual_seed(0)
        return objective(x, generator, recordings=recordings).loss.item()

    objective.train()
    moved = loss(recordings)
    objective.recording_mixing = 0.0
    plain = loss(recordings)
    objective.recording_mixing = 1.5
    objective.eval()
    assert loss(recordings) == plain != moved
    # Recordings of other windows are not known.
    assert loss(torch.full((8,), -1)) == loss(None) != plain


def test_residues_are_no_targets():
    """Standardised within a recording, what a filter has removed would be a target."""
    objective, x, recordings = make_recordings({"n_times": 400, "patch_size": 100})
    x = mne.filter.filter_data(x.double().numpy(), 200, None, 30, verbose=False)
    x = torch.from_numpy(x + 1e-4 * (-1) ** np.arange(400)).float()  # at 100 Hz
    objective.prepare(x, pd.DataFrame({"subject": recordings.tolist()}))
    patches = objective._extract(x)["patches"]
    targets = objective.scalers["patches"](patches, recordings)
    targets = targets.unflatten(-1, (-1, 4))  # (n_windows, n_patches, n_freqs, n_chans)
    assert targets[:, :, -1].abs().max() < 0.1
    std = targets[:, :, 1:8].std(dim=(0, 1))
    torch.testing.assert_close(std, torch.ones_like(std), atol=0.05, rtol=0)


@pytest.mark.parametrize("mask_ratio", [0.1, 0.33, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("n_times", [100, 200, 333])
def test_exactly_the_rounded_number_of_patches_is_masked(mask_ratio, n_times):
    objective = make_objective({"n_times": n_times}, mask_ratio=mask_ratio)
    n_patches = -(-n_times // 10)
    mask = objective.sample_masks(50).patches
    assert mask.shape == (50, n_patches)
    assert mask.sum(dim=1).tolist() == [round(mask_ratio * n_patches)] * 50
    assert objective.n_masked == round(mask_ratio * n_patches)


def test_defaults_and_presets():
    encoder = MoodReader(n_outputs=3, n_chans=2, n_times=200, sfreq=200, **SMALL)
    objective = MoodReaderPretraining(encoder)
    assert objective.mask_ratio == 0.75
    assert objective.n_masked == 15
    assert objective.normalize_targets == "recording"
    assert not objective.loss.normalize_targets
    assert objective.recording_mixing == 1.5
    assert objective.to_decoder.out_features == 64
    assert [len(objective.decoder), objective.decoder[0].self_attn.num_heads] == [3, 4]
    objective = MoodReaderPretraining(encoder, preset="mind-vis", n_decoder_layers=1)
    assert objective.to_decoder.out_features == 512
    assert [len(objective.decoder), objective.decoder[0].self_attn.num_heads] == [2, 16]


def test_masked_samples_matter_only_as_targets():
    """With fixed predictions the loss moves, but no token that the decoder sees."""
    objective = make_objective().eval()
    x = make_windows()
    masks = objective.sample_masks(6, torch.Generator().manual_seed(0))
    seen = []
    objective.to_decoder.register_forward_hook(
        lambda module, args, output: seen.append(args[0])
    )
    changed = torch.where(masks.patches.repeat_interleave(10, 1)[:, None], 5.0, x)
    first, second = (
        objective.compute_loss(x, *masks),
        objective.compute_loss(changed, *masks),
    )
    assert torch.equal(*seen)
    assert first.terms["patches"] != second.terms["patches"]


def test_mask_tokens_stand_in_the_places_of_masked_patches():
    objective = make_objective({"embed_dim": 8}).eval()
    for name in ("to_decoder", "decoder", "to_patch"):
        setattr(objective, name, nn.Identity())
    objective.positions.zero_()
    masks = objective.sample_masks(6, torch.Generator().manual_seed(0))
    tokens = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    decoded = objective._decode(tokens, masks.patches)
    for window, row in enumerate(masks.patches.tolist()):
        visible = list(tokens[window])
        for place, is_masked in enumerate(row):
            expected = objective.mask_token[0, 0] if is_masked else visible.pop(0)
            assert torch.equal(decoded[window, place], expected)


@pytest.mark.parametrize("encoder", [{}, WITH_EYES])
def test_output(encoder):
    objective = make_objective(encoder)
    assert isinstance(objective, PretrainingObjective)
    model = objective.encoder
    output = objective(make_windows(6, model.n_chans, model.n_times))
    assert isinstance(output, PretrainingOutput)
    assert output.loss.shape == ()
    assert list(output.terms) == ["patches", "entropy", "eye"][: 3 if encoder else 2]
    assert not any(term.requires_grad for term in output.terms.values())


def find_gradients(module):
    """Return the largest gradient of each parameter that has one."""
    return {
        name: parameter.grad.abs().max().item()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("encoder", [{"n_times": 400}, WITH_EYES])
def test_pretraining_reaches_every_weight_that_the_features_come_from(encoder):
    """Only the signal encoder had gradients; everything after it stayed random."""
    objective = make_objective(encoder)
    model = objective.encoder
    x = make_windows(6, model.n_chans, model.n_times)
    model(x, return_features=True)["features"].square().sum().backward()
    used = find_gradients(model)
    assert {name for name, value in used.items() if value > 0} == set(used)
    assert {name for name, _ in model.named_parameters()} - set(used) == {
        f"final_layer.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")
    }
    objective.zero_grad(set_to_none=True)
    objective(x).loss.backward()
    reached = find_gradients(objective)
    assert all(np.isfinite(value) for value in reached.values())
    assert {name for name, value in reached.items() if value > 0} == {
        name for name, _ in objective.named_parameters() if "final_layer" not in name
    }


@pytest.mark.parametrize("part", ["entropy", "eye"])
def test_a_term_of_weight_zero_trains_nothing(part):
    objective = make_objective(WITH_EYES, **{f"{part}_weight": 0.0})
    objective(make_windows(6, 6, 400)).loss.backward()
    reached = find_gradients(objective)
    assert reached[f"to_{part}.weight"] == 0
    other = {"entropy": "eye", "eye": "entropy"}[part]
    for name in (f"to_{other}.weight", "encoder.merge.weight"):
        assert reached[name] > 0


def test_masks():
    objective = make_objective(WITH_EYES, feature_mask_ratio=0.4)
    masks = objective.sample_masks(200, torch.Generator().manual_seed(0))
    assert [mask.dtype for mask in masks] == [torch.bool] * 3
    assert masks.entropy.shape == (200, 2, 3)
    assert masks.eye.shape == (200, 2, 3)
    assert (masks.entropy.sum(dim=(1, 2)) == 2).all()
    # In all steps or in none, as the features of a corpus last several seconds.
    assert (masks.eye[:, 0] == masks.eye[:, 1]).all()
    assert (masks.eye[:, 0].sum(dim=1) == 1).all()
    for mask in (masks.entropy, masks.eye):
        assert (mask.float().mean(dim=0) - 1 / 3).abs().max() < 0.15


@pytest.mark.parametrize(
    ("ratio", "n", "n_masked"),
    [(0.5, 1, 1), (0.5, 2, 1), (0.01, 4, 1), (0.99, 4, 3), (0.5, 62, 31)],
)
def test_at_least_one_feature_is_masked_and_one_of_several_is_visible(
    ratio, n, n_masked
):
    info = mne.create_info(
        [f"C{i}" for i in range(n + 1)], 200.0, ["eeg"] + ["misc"] * n
    )
    encoder = {"chs_info": info["chs"], "n_chans": None}
    masks = make_objective(encoder, feature_mask_ratio=ratio).sample_masks(5)
    assert masks.eye.sum(dim=(1, 2)).tolist() == [n_masked] * 5


def hide_eyes(x, hidden):
    """Return windows whose eye data (batch, 2 steps, 3 features) are NaN somewhere."""
    x = x.clone()
    samples = hidden.mT.repeat_interleave(200, dim=2)  # (batch, 3, n_times)
    x[:, [0, 3, 5]] = x[:, [0, 3, 5]].masked_fill(samples, torch.nan)
    return x


def test_missing_eye_data_are_masked():
    """NaN in one eye feature made the features and the loss of its batch NaN."""
    objective = make_objective(WITH_EYES).eval()
    model = objective.encoder
    x = make_windows(6, 6, 400)
    objective.prepare(x)
    hidden = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0)) < 0.4
    hidden[1], hidden[2] = True, False
    missing = hide_eyes(x, hidden)
    tokens = model.encode_patches(model.extract_patches(x))
    eye = model.extract_eye(x)
    features = model.fuse(
        tokens, model.extract_entropy(x), eye.masked_fill(hidden, torch.nan)
    )
    found = model(missing, return_features=True)["features"]
    assert found.isfinite().all()
    torch.testing.assert_close(found, features)
    torch.testing.assert_close(found[2], model(x, return_features=True)["features"][2])

    masks = objective.sample_masks(6, torch.Generator().manual_seed(0))
    known = masks.eye & ~hidden
    masked = masks._replace(eye=masks.eye | hidden)
    seen = []
    objective.to_eye.register_forward_hook(lambda module, args, out: seen.append(out))
    whole = objective.compute_loss(x, *masked).terms
    found = objective.compute_loss(missing, *masks).terms
    torch.testing.assert_close(seen[0], seen[1])
    for name in ("patches", "entropy"):
        torch.testing.assert_close(found[name], whole[name])
    # Missing data have no target.
    errors = (seen[0].view_as(eye) - eye).square()
    torch.testing.assert_close(found["eye"], errors[known].mean())
    torch.testing.assert_close(whole["eye"], errors[masked.eye].mean())


def test_a_gap_in_an_eye_feature_leaves_the_mean_of_the_rest():
    model = make_objective(WITH_EYES).encoder
    x = make_windows(6, 6, 400)
    expected = x[:, [0, 3, 5], 50:200].mean(dim=2)
    x[:, [0, 3, 5], :50] = torch.nan
    torch.testing.assert_close(model.extract_eye(x)[:, 0], expected)


class ForbidReading(TorchDispatchMode):
    """Refuse the operations for which the processor waits for a GPU, on the CPU too."""

    waiting = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if by_mask or name in self.waiting:
            raise RuntimeError(f"{func} would wait for a GPU.")
        return func(*args, **(kwargs or {}))


def test_reading_is_forbidden_on_the_cpu():
    x = torch.arange(3.0)
    for read in (lambda: x[x > 1], lambda: x.sum().item(), lambda: bool((x > 1).any())):
        with pytest.raises(RuntimeError, match="would wait"), ForbidReading():
            read()


@pytest.mark.parametrize("encoder", [{}, WITH_EYES])
def test_no_step_reads_from_the_device(encoder):
    objective = make_objective(encoder)
    model = objective.encoder
    x = make_windows(6, model.n_chans, model.n_times)
    with ForbidReading():
        objective(x).loss.backward()
        model(x).sum().backward()


def test_windows_without_any_eye_data():
    objective = make_objective(WITH_EYES)
    x = make_windows(6, 6, 400)
    missing = hide_eyes(x, torch.ones(6, 2, 3, dtype=torch.bool))
    objective.prepare(missing)
    scaler = objective.encoder.eye_scaler
    assert (scaler.mean.tolist(), scaler.std.tolist()) == ([0] * 3, [1] * 3)
    output = objective(missing)
    output.loss.backward()
    assert output.terms["eye"] == 0
    assert all(np.isfinite(value) for value in find_gradients(objective).values())
    assert objective.encoder(missing).isfinite().all()


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
    for extract in (
        objective.encoder.extract_patches,
        objective.encoder.extract_entropy,
    ):
        values = extract(x)
        assert values.mean().item() == pytest.approx(0, abs=1e-5)
        assert values.std(correction=0).item() == pytest.approx(1, abs=1e-3)


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
    masks = trained.sample_masks(64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        loss = trained.compute_loss(x, *masks).terms["patches"]
        for parameter in trained.to_patch.parameters():
            parameter.zero_()
        ratio = (loss / trained.compute_loss(x, *masks).terms["patches"]).item()
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


def test_the_shipped_pipeline_takes_eye_features_if_they_are_loaded(
    tmp_path, monkeypatch
):
    """Windows reach it as arrays, in which eye features are not marked."""
    seen = set()
    forward = MoodReaderPretraining.forward

    def note(self, x, **kwargs):
        seen.add((self.encoder.n_eeg_chans, self.encoder.n_eye_chans))
        return forward(self, x, **kwargs)

    monkeypatch.setattr(MoodReaderPretraining, "forward", note)
    root = write_replica(
        "SEED-IV", tmp_path, subjects=[1, 2], seconds=4, seed=0, sessions=[0]
    )
    corpus = SEED_IV([1, 2], sessions=[0], path=root, return_all_modalities=True)
    pipelines, _ = load_pipelines(pipelines_folder() / "mood_reader.yml")
    settings = {"pretrain_steps": 1, "finetune_steps": 1, "batch_size": 4}
    sizes = {name: value for name, value in SMALL.items() if name != "patch_size"}
    pipelines["MoodReader"][-1].set_params(
        **settings, **{f"model__{name}": value for name, value in sizes.items()}
    )
    results = evaluate(
        pipelines, [corpus], Emotion(window=4.0), "leave-one-subject-out"
    )
    assert len(results) == 2
    assert seen == {(62, 31)}


QUICK = {
    **{f"model__{name}": value for name, value in SMALL.items()},
    "objective__decoder_dim": 16,
    "objective__n_decoder_heads": 2,
    "pretrain_steps": 2,
    "finetune_steps": 2,
    "batch_size": 16,
    "random_state": 0,
}


def test_missing_eye_features_are_accepted_wherever_windows_are(multimodal):
    """The model masked them, but the classifier refused the windows."""
    epochs, y = multimodal
    X = epochs.get_data(units={"eeg": "uV"}).astype(np.float32)
    X[:20, 4:] = np.nan  # no eye data in some windows
    X[20:40, 5, :60] = np.nan
    classifier = SSLClassifier(
        "MoodReader", sfreq=200.0, chs_info=epochs.info["chs"], **QUICK
    )
    classifier.fit(
        X[:60],
        y[:60],
        X_unlabeled=X[:30],
        X_target_unlabeled=X[10:50],
        X_val=X[:40],
        y_val=y[:40],
    )
    assert np.isfinite(classifier.pretrainer_.history_[:, "train_loss"]).all()
    assert np.isfinite(classifier.predict_proba(X[:60])).all()


@pytest.mark.parametrize("where", ["X", "X_unlabeled", "predict"])
def test_missing_eeg_is_refused(multimodal, where):
    epochs, y = multimodal
    X = epochs.get_data(units={"eeg": "uV"}).astype(np.float32)[:60]
    broken = X.copy()
    broken[3, 2, 7] = np.nan
    classifier = SSLClassifier(
        "MoodReader", sfreq=200.0, chs_info=epochs.info["chs"], **QUICK
    )
    name = "X" if where == "predict" else where
    says = rf"Input {name} contains NaN in channel 2\. .* channels \[4, 5, 6\]: repair"
    with pytest.raises(ValueError, match=says):
        classifier.fit(
            broken if where == "X" else X,
            y[:60],
            X_unlabeled=broken if where == "X_unlabeled" else None,
        ).predict(broken)


def lose_eyes(raw, subject, session, run):
    """Remove the eye features of every third trial, and the end of all others."""
    eye = mne.pick_types(raw.info, eeg=False, misc=True)
    first = 0 if int(run) % 3 == 0 else raw.n_times - 200
    raw.load_data()[eye, first:] = np.nan
    return raw


def test_trials_without_eye_features_pass_through_an_evaluation(tmp_path):
    root = write_replica(
        "SEED-IV", tmp_path, subjects=[1, 2], seconds=4, seed=0, sessions=[0]
    )
    corpus = SEED_IV([1, 2], sessions=[0], path=root, return_all_modalities=True)
    results = evaluate(
        {
            "MoodReader": SSLClassifier("MoodReader", **QUICK),
            "most frequent": DummyClassifier(),
            "DE": make_pipeline(EEGBandFeatures(), LogisticRegression(max_iter=1000)),
        },
        [corpus.map_raws(lose_eyes)],
        Emotion(window=2.0, standardize="recording"),
        "leave-one-subject-out",
    )
    assert len(results) == 6 and results["score"].notna().all()
    X, _, metadata = Emotion(window=2.0).get_data(corpus.map_raws(lose_eyes))
    missing = np.isnan(X[:, 62:]).all(axis=(1, 2))
    assert set(metadata["trial"][missing]) == set(range(0, 24, 3))


def test_missing_values_in_channels_that_memhacl_does_not_read(multimodal):
    """MEMHACL for EEG alone refused windows because of NaN in eye features."""
    epochs, y = multimodal
    X = epochs.get_data(units={"eeg": "uV"}).astype(np.float32)[:60]
    X[:20, 4:] = np.nan
    settings = {"objective": None, "finetune_steps": 2, "random_state": 0}
    settings |= {"sfreq": 200.0, "chs_info": epochs.info["chs"]}
    eeg = SSLClassifier("MEMHACL", model__channel_types=["eeg"], **settings)
    assert np.isfinite(eeg.fit(X, y[:60]).predict_proba(X)).all()
    with pytest.raises(
        ValueError, match=r"channel 4\. MEMHACL accepts .* in no channel"
    ):
        SSLClassifier("MEMHACL", **settings).fit(X, y[:60])


@pytest.mark.parametrize(
    ("encoder", "settings", "message"),
    [
        ({}, {"preset": "paper"}, "preset must be one of .* got 'paper'"),
        ({}, {"mask_ratio": 1.2}, r"mask_ratio must be in the interval \[0, 1\]"),
        ({}, {"mask_ratio": 1.0}, "masks 20 of 20"),
        ({}, {"mask_ratio": 0.0}, "masks 0 of 20"),
        ({"patch_size": 200}, {}, "masks 1 of 1. Change it, or use longer windows"),
        ({}, {"feature_mask_ratio": 1.0}, r"feature_mask_ratio must be .* \(0, 1\)"),
        ({}, {"entropy_weight": -1.0}, "entropy_weight must be a finite number"),
        ({}, {"eye_weight": float("nan")}, "eye_weight must be a finite number"),
        ({}, {"recording_mixing": None}, "recording_mixing must be a finite number"),
        ({}, {"normalize_targets": True}, "normalize_targets must be one of .* True"),
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
        (torch.ones(6, 20, dtype=torch.bool), "at least one, visible"),
        (torch.zeros(6, 19, dtype=torch.bool), r"= \(6, 20\), but got"),
    ],
)
def test_compute_loss_rejects(mask, message):
    objective = make_objective()
    _, *others = objective.sample_masks(6)
    with pytest.raises(ValueError, match=message):
        objective.compute_loss(make_windows(), mask, *others)


@pytest.mark.gpu
@pytest.mark.parametrize("encoder", [{}, WITH_EYES])
def test_cuda(encoder):
    objective = make_objective(encoder).eval()
    model = objective.encoder
    x, generator = make_windows(6, model.n_chans, model.n_times), torch.Generator()
    expected = objective(x, generator.manual_seed(0)).loss
    found = objective.cuda()(x.cuda(), generator.manual_seed(0)).loss
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-4)


def test_missing_eye_features_are_not_blamed_for_a_divergence():
    """The error named windows whose eye features are missing as it is allowed."""
    X = make_windows(8, 6, 400)
    X[:, 0, :100] = torch.nan  # the pupil, in any batch that diverges
    pretrainer = SSLPretrainer(
        make_objective(WITH_EYES), max_steps=20, batch_size=4, lr=1e20, random_state=0
    )
    with pytest.raises(FloatingPointError, match="the training has diverged"):
        pretrainer.fit(X.numpy())
