"""The MoodReader model: its branches, attention, scaling and braindecode's contract."""

from __future__ import annotations

import copy
import math

import mne
import numpy as np
import pytest
import torch
from braindecode.models.config import make_model_config
from torch import nn

from braindecode_emossl.datasets.seed_iv import EYE_FEATURES
from braindecode_emossl.datasets.seed_v import EYE_FEATURES as SEED_V_EYE_FEATURES
from braindecode_emossl.features import differential_entropy
from braindecode_emossl.models import MoodReader
from braindecode_emossl.models.mood_reader import make_positions

SMALL = {
    "embed_dim": 16,
    "n_layers": 2,
    "n_heads": 4,
    "patch_size": 10,
    "feature_dim": 8,
    "n_feature_heads": 2,
    "n_hidden": 12,
}


def make_chs_info(*kinds, sfreq=200):
    return mne.create_info([f"C{i}" for i in range(len(kinds))], sfreq, kinds)["chs"]


#: Eye features on both sides of the EEG.
MIXED = make_chs_info("misc", "eeg", "eeg", "misc", "eeg")


def make_model(**kwargs):
    """Build a small model with weights that do not depend on the test order."""
    settings = {"n_outputs": 3, "n_chans": 4, "n_times": 400, "sfreq": 200, **SMALL}
    if "chs_info" in kwargs:
        settings.pop("n_chans")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MoodReader(**{**settings, **kwargs})


def make_input(model, batch_size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch_size, model.n_chans, model.n_times, generator=generator)


def make_mask(model, batch_size=6, n_visible=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(batch_size, model.n_patches, generator=generator)
    return noise.argsort(dim=1).argsort(dim=1) >= n_visible


@pytest.fixture(params=["eeg", "eeg and eye"])
def model(request):
    kwargs = {} if request.param == "eeg" else {"chs_info": MIXED}
    return make_model(**kwargs).eval()


def slow_attention(attention, queries, context):
    """Return output (n_queries, dim) and mean weights (n_queries, n_keys) by loops."""
    dim = queries.shape[1]
    width = dim // attention.n_heads
    query, key, value = (
        part(x)
        for part, x in (
            (attention.query, queries),
            (attention.key, context),
            (attention.value, context),
        )
    )
    output = torch.zeros(len(queries), dim)
    weights = torch.zeros(len(queries), len(context))
    for start in range(0, dim, width):
        part = slice(start, start + width)
        for i in range(len(queries)):
            scores = [
                math.exp((query[i, part] @ key[j, part]).item() / math.sqrt(width))
                for j in range(len(context))
            ]
            for j, score in enumerate(scores):
                share = score / sum(scores)
                output[i, part] += share * value[j, part]
                weights[i, j] += share / attention.n_heads
    return attention.output(output), weights


def slow_layer(layer, x):
    """Return output (n_steps, n_chans, dim) and weights (n_chans,) of one window."""
    n_steps, n_chans, _ = x.shape
    normed = layer.norm(x)
    space, time = x.clone(), x.clone()
    maps = []
    for i in range(n_steps):
        output, weights = slow_attention(layer.space, normed[i], normed[i])
        space[i] += output
        maps.append(weights)
    for c in range(n_chans):
        time[:, c] += slow_attention(layer.time, normed[:, c], normed[:, c])[0]
    s, t = layer.space_norm(space), layer.time_norm(time)
    for i in range(n_steps):
        output, weights = slow_attention(layer.space_to_time, s[i], t[i])
        space[i] += output
        maps.append(weights)
    for c in range(n_chans):
        time[:, c] += slow_attention(layer.time_to_space, t[:, c], s[:, c])[0]
    both = space + time
    return both + layer.feed_forward(both), torch.stack(maps).mean(dim=(0, 1))


def test_interlinked_layer_equals_slow_reference():
    layer = make_model().eval().feature_encoder.layers[0]
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = [slow_layer(layer, window) for window in x]
    torch.testing.assert_close(layer(x), torch.stack([out for out, _ in expected]))
    torch.testing.assert_close(
        layer.attention_weights(x), torch.stack([weights for _, weights in expected])
    )


@pytest.mark.parametrize("dim", [1, 2])
def test_interlinked_layer_moves_with_its_input(dim):
    """Steps and channels have no order of their own: only embeddings tell them."""
    layer = make_model().eval().feature_encoder.layers[0]
    x = torch.randn(2, 5, 4, 8, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([2, 0, 3, 1] if dim == 2 else [4, 2, 0, 3, 1])
    moved = x.index_select(dim, order)
    torch.testing.assert_close(layer(moved), layer(x).index_select(dim, order))
    weights = layer.attention_weights(x)
    if dim == 2:
        weights = weights.index_select(1, order)
    torch.testing.assert_close(layer.attention_weights(moved), weights)


def test_attention_weights(model):
    x = make_input(model)
    n_eeg_chans = 4 if model.n_eye_chans == 0 else 3
    for trained in (model, copy.deepcopy(model).train()):
        weights = trained.attention_weights(x)
        assert weights.shape == (6, n_eeg_chans)
        assert (weights > 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(6))
        assert not weights.requires_grad
    torch.testing.assert_close(
        model.attention_weights(x.numpy().astype(np.float64)),
        model.attention_weights(x),
    )


def test_attention_weights_are_the_mean_of_the_layers():
    model = make_model().eval()
    encoder = model.feature_encoder
    x = encoder._embed(model._entropy(make_input(model)))
    first, second = encoder.layers
    expected = (first.attention_weights(x) + second.attention_weights(first(x))) / 2
    torch.testing.assert_close(model.attention_weights(make_input(model)), expected)


def test_attention_weights_are_the_same_in_training():
    """Dropout changed the input of the second layer."""
    model = make_model(drop_prob=0.5).train()
    weights = model.attention_weights(make_input(model))
    assert model.training and model.feature_encoder.training
    torch.testing.assert_close(
        weights, model.eval().attention_weights(make_input(model))
    )


def test_attention_weights_are_equal_without_queries():
    model = make_model().eval()
    for layer in model.feature_encoder.layers:
        for attention in (layer.space, layer.space_to_time):
            nn.init.zeros_(attention.query.weight)
            nn.init.zeros_(attention.query.bias)
    weights = model.attention_weights(make_input(model))
    torch.testing.assert_close(weights, torch.full((6, 4), 0.25))


def test_sizes_of_dreamdiffusion():
    """512 samples of 128 channels are 128 patches of 4 samples."""
    model = make_model(
        n_chans=128, n_times=512, sfreq=128, patch_size=4, patch_domain="signal"
    ).eval()
    patches = model.extract_patches(make_input(model, 2))
    assert patches.shape == (2, 128, 4 * 128)
    assert model.encode_patches(patches).shape == (2, 128, 16)


def test_default_sizes():
    model = MoodReader(n_outputs=3, n_chans=62, n_times=800, sfreq=200)
    assert model.n_patches == 16
    assert model.patch_dim == 26 * 62
    assert model.n_steps == 4
    assert model.n_features == 96
    assert len(model.signal_encoder.layers) == 4 + 1
    assert model.signal_encoder.layers[0].linear1.weight.shape == (256, 128)


@pytest.mark.parametrize(
    ("seconds", "sfreq", "n_steps"),
    [(0.5, 128, 1), (1, 128, 1), (1.5, 200, 2), (2.5, 200, 2), (4, 200, 4)],
)
def test_steps(seconds, sfreq, n_steps):
    model = make_model(n_times=round(seconds * sfreq), sfreq=sfreq).eval()
    assert model.n_steps == n_steps
    x = make_input(model)
    entropy = differential_entropy(x, sfreq, window=seconds / n_steps, method="fft")
    torch.testing.assert_close(model._entropy(x), entropy)
    assert model(x).shape == (6, 3)


def test_patches_are_consecutive_samples_filled_up_with_zeros():
    model = make_model(n_times=403, patch_domain="signal").eval()
    x = make_input(model)
    patches = model.extract_patches(x)
    assert patches.shape == (6, 41, model.patch_dim) == (6, 41, 40)
    samples = patches.unflatten(2, (10, 4)).flatten(1, 2)  # (batch, time, n_chans)
    assert torch.equal(samples[:, :403].mT, x)
    assert (samples[:, 403:] == 0).all()


@pytest.mark.parametrize("patch_size", [1, 2, 9, 50])
def test_spectra_equal_slow_reference(patch_size):
    """The sum over samples of a patch, each turned by the frequency's phase."""
    model = make_model(n_chans=2, n_times=103, patch_size=patch_size).eval()
    x = make_input(model, 3)
    patches = model.extract_patches(x)
    n_patches, n_freqs = -(-103 // patch_size), patch_size // 2 + 1
    assert model.patch_dim == 2 * n_freqs
    assert patches.shape == (3, n_patches, 2 * n_freqs)
    padded = np.zeros((3, 2, n_patches * patch_size))
    padded[..., :103] = x.numpy()
    samples = np.arange(patch_size)
    taper = (1 - np.cos(2 * np.pi * (samples + 0.5) / patch_size)) / 2
    for n in range(n_patches):
        patch = padded[..., n * patch_size : (n + 1) * patch_size]
        for k in range(n_freqs):
            turn = np.exp(-2j * np.pi * k * samples / patch_size)
            expected = np.abs((patch * taper * turn).mean(axis=-1))  # (batch, n_chans)
            found = patches[:, n, 2 * k : 2 * k + 2]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_spectra_know_no_phase():
    """Noise of the same bands looks alike, whenever its waves begin."""
    model = make_model(n_chans=1, patch_size=50).eval()
    angles = 2 * np.pi * 20 * torch.arange(400) / 200 + torch.tensor([[0.0], [1.3]])
    sine, moved = model.extract_patches(angles.cos()[:, None])
    torch.testing.assert_close(sine, moved, atol=1e-3, rtol=0)
    assert (sine.argmax(dim=1) == 5).all()  # 20 Hz, as frequencies lie 4 Hz apart
    signal = make_model(n_chans=1, patch_size=50, patch_domain="signal").eval()
    sine, moved = signal.extract_patches(angles.cos()[:, None])
    assert (sine - moved).abs().max() > 0.5


@pytest.mark.parametrize("patch_domain", ["spectrum", "signal"])
def test_masked_patches_do_not_reach_the_encoder(patch_domain):
    """Whatever the masked samples are, tokens and gradients are those of the others."""
    model = make_model(chs_info=MIXED, patch_domain=patch_domain).eval()
    model.fit_normalization(make_input(model, 20, seed=3))
    x, mask = make_input(model), make_mask(model)
    in_samples = mask.repeat_interleave(10, dim=1)[:, None]  # (batch, 1, n_times)
    changed = torch.where(in_samples, 1e3 * make_input(model, seed=1) + 7, x)
    tokens = model.encode_patches(model.extract_patches(x), mask)
    assert tokens.shape == (6, 10, 16)
    assert torch.equal(
        tokens, model.encode_patches(model.extract_patches(changed), mask)
    )
    x.requires_grad_()
    model.encode_patches(model.extract_patches(x), mask).square().sum().backward()
    eeg = x.grad[:, model.eeg_chans]  # (batch, n_eeg_chans, n_times)
    assert (eeg.masked_select(in_samples) == 0).all()
    assert (eeg.masked_select(~in_samples) != 0).all()


def test_visible_patches_keep_their_place():
    """A token is a patch's projection plus its position, in the patches' order."""
    model = make_model().eval()
    model.signal_encoder.layers = nn.Identity()
    patches = model.extract_patches(make_input(model))
    mask = make_mask(model)
    tokens = model.encode_patches(patches, mask)
    positions = make_positions(40, 16)
    for i in range(6):
        visible = [n for n in range(40) if not mask[i, n]]
        expected = [
            model.signal_encoder.projection(patches[i, n]) + positions[n]
            for n in visible
        ]
        torch.testing.assert_close(tokens[i], torch.stack(expected))


def test_no_mask_is_an_empty_mask(model):
    patches = model.extract_patches(make_input(model))
    torch.testing.assert_close(
        model.encode_patches(patches),
        model.encode_patches(patches, make_mask(model, n_visible=40)),
    )


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(6, 39, dtype=torch.bool), r"= \(6, 40\), but got .* \(6, 39\)"),
        (torch.zeros(6, 40, dtype=torch.int), "but got torch.int32"),
        (torch.ones(6, 40, dtype=torch.bool), "at least one, visible in each window"),
        (torch.ones(6, 40).tril() > 0, r"but got \[39, 38, 37, 36, 35, 34\]"),
    ],
)
def test_encode_patches_rejects(mask, message):
    model = make_model().eval()
    patches = model.extract_patches(make_input(model))
    with pytest.raises(ValueError, match=message):
        model.encode_patches(patches, mask)


def test_positions():
    positions = make_positions(50, 8)
    assert positions.shape == (50, 8)
    for n in (0, 1, 49):
        for i in range(4):
            angle = n / 10_000 ** (2 * i / 8)
            assert positions[n, i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert positions[n, 4 + i].item() == pytest.approx(
                math.cos(angle), abs=1e-5
            )


def test_channels_are_told_apart_by_their_kind():
    """The same windows with the channels in another order give the same output."""
    model = make_model(chs_info=MIXED).eval()
    order = [1, 2, 4, 0, 3]
    other = make_model(chs_info=[MIXED[i] for i in order]).eval()
    other.load_state_dict(model.state_dict())
    x = make_input(model)
    assert (model.n_eeg_chans, model.n_eye_chans) == (3, 2)
    torch.testing.assert_close(other(x[:, order]), model(x))


@pytest.mark.parametrize("names", [EYE_FEATURES, SEED_V_EYE_FEATURES])
@pytest.mark.parametrize("kind", ["eeg", None])
def test_eye_features_are_found_by_name(names, kind):
    """Eye features without a type counted as electrodes."""
    chs_info = [{"ch_name": name, "kind": kind} for name in ("Fp1", *names, "CB2")]
    model = make_model(chs_info=chs_info)
    assert model.eeg_chans.tolist() == [0, len(names) + 1]
    assert model.eye_chans.tolist() == [*range(1, len(names) + 1)]


def test_no_electrode_has_the_name_of_an_eye_feature():
    names = {
        name
        for montage in mne.channels.get_builtin_montages()
        for name in mne.channels.make_standard_montage(montage).ch_names
    }
    model = make_model(chs_info=[{"ch_name": name} for name in sorted(names)])
    assert model.n_eye_chans == 0


@pytest.mark.parametrize("kind", ["misc", "eyegaze", "pupil"])
def test_eye_features_are_found_by_type(kind):
    info = mne.create_info(["Cz", "one", "Pz"], 200.0, ["eeg", kind, "eeg"])
    assert make_model(chs_info=info["chs"]).eye_chans.tolist() == [1]
    named = [{"ch_name": "Cz", "kind": "eeg"}, {"ch_name": "one", "kind": kind}]
    assert make_model(chs_info=named).eye_chans.tolist() == [1]


def test_ear_electrodes_are_not_eye_features():
    """Those of FACED, of the type misc, were reconstructed as eye features."""
    names, types = ["Cz", "A1", "A2", "eye_01"], ["eeg", "misc", "misc", "misc"]
    info = mne.create_info(names, 200.0, types)
    with pytest.warns(UserWarning, match=r"leaves out \{'misc': \['A1', 'A2'\]"):
        assert make_model(chs_info=info["chs"]).eye_chans.tolist() == [3]


def test_eye_features_without_chs_info():
    """Arrays carry no names, so all channels counted as EEG."""
    model = make_model(n_chans=5, eye_channels=[3, 0]).eval()
    assert model.eeg_chans.tolist() == [1, 2, 4]
    assert model.eye_chans.tolist() == [0, 3]
    other = make_model(chs_info=MIXED).eval()
    x = make_input(model)
    torch.testing.assert_close(model(x), other(x))
    named = make_model(chs_info=MIXED, eye_channels=["C0", "C3"])
    assert named.eye_chans.tolist() == [0, 3]


def test_eye_features_can_be_left_out():
    model = make_model(chs_info=MIXED, eye_channels=[]).eval()
    assert (model.n_eeg_chans, model.n_eye_chans) == (3, 0)
    x = make_input(model)
    eeg = make_model(n_chans=3).eval()
    torch.testing.assert_close(model(x), eeg(x[:, [1, 2, 4]]))


def test_other_channels_are_left_out_with_a_warning():
    """With all modalities of SEED-V or DEAP, the model could not be built."""
    chs_info = make_chs_info("eog", "eeg", "gsr", "misc")
    with pytest.warns(
        UserWarning, match=r"leaves out \{'eog': \['C0'\], 'gsr': \['C2'\]"
    ):
        model = make_model(chs_info=chs_info)
    assert model.eeg_chans.tolist() == [1]
    assert model.eye_chans.tolist() == [3]


def test_eye_features_reach_the_output_and_eeg_does_not_need_them():
    model = make_model(chs_info=MIXED).eval()
    x = make_input(model)
    other = x.clone()
    other[:, 3] += 1
    assert not torch.allclose(model(other), model(x))
    assert torch.equal(model.extract_patches(other), model.extract_patches(x))
    assert torch.equal(model.attention_weights(other), model.attention_weights(x))
    assert not hasattr(make_model(), "eye_fusion")


def test_eye_features_are_the_mean_of_each_step():
    model = make_model(chs_info=MIXED, n_times=800).eval()
    held = torch.arange(8.0).view(1, 2, 4).repeat_interleave(200, dim=2)
    x = torch.zeros(1, 5, 800)
    x[:, [0, 3]] = held
    torch.testing.assert_close(model._eye(x), torch.arange(8.0).view(1, 2, 4).mT)


def test_missing_eye_data_reach_only_their_window():
    """One NaN in an eye feature made the features of a window NaN."""
    model = make_model(chs_info=MIXED).eval()
    x = make_input(model)
    missing = x.clone()
    missing[1, 0] = torch.nan
    missing[2, [0, 3], :200] = torch.nan
    missing[3, [0, 3]] = torch.nan
    output, whole = model(missing), model(x)
    assert output.isfinite().all()
    torch.testing.assert_close(output[[0, 4, 5]], whole[[0, 4, 5]])
    assert (output[1:4] != whole[1:4]).any(dim=1).all()
    # Nothing is left of the eye data of window 3.
    other = missing.clone()
    other[3, [1, 2, 4]] = x[0, [1, 2, 4]]
    blank = x[:1].clone()
    blank[:, [0, 3]] = torch.nan
    torch.testing.assert_close(model(other)[3], model(blank)[0])


def test_a_missing_eye_feature_has_its_mean_before_training():
    model = make_model(chs_info=MIXED).eval()
    x = make_input(model)
    model.fit_normalization(x)
    missing = x.clone()
    missing[:, 0] = torch.nan
    x[:, 0] = model.eye_scaler.mean[0]
    torch.testing.assert_close(model(missing), model(x))


def test_missing_eye_data_do_not_count_in_the_scaling():
    model = make_model(chs_info=MIXED)
    x = 20 * make_input(model, 50) + 3
    missing = x.clone()
    missing[10:, 0] = torch.nan
    missing[:, 3] = torch.nan
    model.fit_normalization(missing, chunk_size=7)
    known = model._eye(x[:10])[..., 0]
    scaler = model.eye_scaler
    torch.testing.assert_close(scaler.mean[0], known.mean())
    torch.testing.assert_close(scaler.std[0], known.std(correction=0))
    assert (scaler.mean[1], scaler.std[1]) == (0, 1)
    missing[0, 3, 0] = torch.inf
    with pytest.raises(ValueError, match="or infinite values"):
        model.fit_normalization(missing)


def test_return_features(model):
    x = make_input(model)
    output = model(x, return_features=True)
    assert output["features"].shape == (6, model.n_features)
    tokens = model.encode_patches(model.extract_patches(x))
    torch.testing.assert_close(output["cls_token"], tokens.mean(dim=1))


@pytest.mark.parametrize("patch_domain", ["spectrum", "signal"])
@pytest.mark.parametrize("chunk_size", [1, 7, 50, 256])
def test_fit_normalization_gives_mean_zero_and_variance_one(patch_domain, chunk_size):
    model = make_model(chs_info=MIXED, patch_domain=patch_domain).eval()
    x = 20 * make_input(model, 50) + torch.arange(model.n_chans)[:, None] * 100
    x *= torch.linspace(0.5, 2, 50)[:, None, None]
    assert model.fit_normalization(x.numpy(), chunk_size=chunk_size) is model
    parts = [
        (model.signal_scaler, model._signal_values),
        (model.entropy_scaler, model._entropy),
        (model.eye_scaler, model._eye),
    ]
    for scaler, extract in parts:
        scaled = scaler(extract(x)).double()
        variance, mean = torch.var_mean(scaled, (0, 1), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(
            variance, torch.ones_like(variance), rtol=1e-4, atol=0
        )


def test_fit_normalization_forgets_the_last_fit(model):
    x = make_input(model)
    model.fit_normalization(x)
    expected = copy.deepcopy(model.state_dict())
    model.fit_normalization(100 * x + 1).fit_normalization(x)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_fit_normalization_does_not_blow_up_rounding():
    """A constant eye feature was divided by the rounding error of its variance."""
    model = make_model(chs_info=MIXED)
    x = make_input(model, 50)
    x[:, 0], x[:, 3] = 0.1, 0.0
    model.fit_normalization(x, chunk_size=7)
    assert model.eye_scaler.std.tolist() == [1, 1]
    assert model.eye_scaler(model._eye(x)).abs().max() < 1e-6


@pytest.mark.parametrize("patch_size", [10, 50])
def test_flat_channel_does_not_blow_up_rounding(patch_size):
    """All frequencies of a dead electrode but the lowest two are rounding errors."""
    model = make_model(patch_size=patch_size).eval()
    x = make_input(model, 50)
    x[:, 1] = 0.1 + 1e-7 * x[:, 1]
    model.fit_normalization(x)
    assert (model.signal_scaler.std[:, 1] == 1).all()
    assert (model.signal_scaler.std[:, [0, 2, 3]] < 1).all()
    alive = make_input(model, 50, seed=1)
    assert model.extract_patches(alive).abs().max() < 20


def test_frequencies_that_a_filter_removed_are_not_scaled_up():
    """What resampling leaves near the Nyquist frequency was scaled to variance 1.

    Its size depends on the length of the recording: rest of 180 s and arithmetic of
    60 s were told apart by it with a balanced accuracy of .8.
    """
    n_chans, n_times = 3, 400
    sizes = {"n_chans": n_chans, "n_times": n_times, "patch_size": 50}
    model = make_model(**sizes).eval()
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((40, n_chans, n_times))
    signal = mne.filter.filter_data(signal, 200, None, 30, verbose=False)
    signal = 10 * signal + 1000  # an offset is not what the others are compared with
    residue = 1e-4 * (-1) ** np.arange(n_times)  # at 100 Hz
    model.fit_normalization(signal + rng.uniform(0, 1, (40, 1, 1)) * residue)
    without, with_residue = (
        model.extract_patches(torch.tensor(x).float()).unflatten(-1, (-1, n_chans))
        for x in (signal, signal + residue)
    )  # (n_windows, n_patches, n_freqs, n_chans)
    assert (with_residue - without)[:, :, -1].abs().max() < 1e-3
    assert without[:, :, -1].std() < 1e-3
    std = without[:, :, 1:8].std(dim=(0, 1))
    torch.testing.assert_close(std, torch.ones_like(std), atol=0.01, rtol=0)


def test_fit_normalization_rejects(model):
    x = make_input(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="at least one window, but got none"):
        model.fit_normalization(x[:0])
    x[2, 1, 3] = torch.nan
    with pytest.raises(ValueError, match="finite windows"):
        model.fit_normalization(x)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_final_layer_is_the_last_child(model):
    assert [name for name, _ in model.named_children()][-1] == "final_layer"
    linear, activation, dropout, output = model.final_layer
    assert isinstance(linear, nn.Linear)
    assert isinstance(activation, nn.GELU)
    assert dropout.p == 0.3
    assert output.out_features == 3


def test_activation_and_dropout_are_everywhere():
    model = make_model(
        chs_info=MIXED, activation=nn.ELU, drop_prob=0.2, head_drop_prob=0.2
    )
    modules = list(model.modules())
    assert sum(isinstance(module, nn.ELU) for module in modules) == 2 + 2 + 1 + 1
    assert not any(isinstance(module, nn.GELU | nn.ReLU) for module in modules)
    assert {module.p for module in modules if isinstance(module, nn.Dropout)} == {0.2}


def test_gradients_reach_every_parameter():
    """Steps and channels are several, as attention to a single one has no gradient."""
    model = make_model(chs_info=MIXED)
    nn.functional.cross_entropy(
        model(make_input(model)), torch.arange(6) % 3
    ).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_training_drops_out(model):
    x = make_input(model)
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(model, dtype):
    x = 20 * make_input(model)
    model.fit_normalization(x)
    expected = model(x)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(model(x).float(), expected, atol=0.05, rtol=0.05)
    output = model.to(dtype)(x.to(dtype))
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), expected, atol=0.1, rtol=0.1)


@pytest.mark.filterwarnings("ignore:Modifying chs_info")
def test_hub_round_trip(model, tmp_path):
    x = make_input(model)
    model.fit_normalization(5 * x)
    model._save_pretrained(tmp_path)
    other = MoodReader.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(other(x), model(x))
    other = MoodReader.from_pretrained(tmp_path, n_outputs=7).eval()
    torch.testing.assert_close(other.signal_scaler.std, model.signal_scaler.std)
    assert other(x).shape == (6, 7)


def test_pydantic_config():
    config_class = make_model_config(
        MoodReader, ["n_outputs", "chs_info", "n_times", "sfreq"]
    )
    chs_info = [{"ch_name": "Cz", "kind": "eeg"}, {"ch_name": "pupil", "kind": "misc"}]
    config = config_class(n_outputs=2, chs_info=chs_info, n_times=200, sfreq=200)
    assert config_class.model_validate_json(config.model_dump_json()) == config
    assert config.create_instance().n_eye_chans == 1
    for listed in (["Cz"], [0]):
        config = config_class(
            n_outputs=2,
            chs_info=chs_info,
            n_times=200,
            sfreq=200,
            eye_channels=listed,
        )
        with pytest.raises(ValueError, match="needs channels of the type eeg"):
            config_class.model_validate_json(config.model_dump_json()).create_instance()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sfreq": None}, "sfreq could not be inferred"),
        ({"sfreq": 90}, "band 'gamma' must be .* 45 Hz"),
        ({"n_times": 20}, "window must be long enough to resolve band 'delta'"),
        ({"patch_domain": "de"}, 'must be "spectrum" or "signal", but got \'de\''),
        ({"patch_size": 0}, "patch_size must be greater than 0, but got 0"),
        ({"n_feature_layers": 0}, "n_feature_layers must be greater than 0"),
        ({"step_seconds": -1}, "step_seconds must be greater than 0, but got -1"),
        ({"embed_dim": 18}, "embed_dim must be even .* embed_dim=18 and n_heads=4"),
        ({"feature_dim": 9, "n_feature_heads": 3}, "feature_dim must be even"),
        ({"chs_info": make_chs_info("eeg", "stim")}, r"\('C1'\) is of kind"),
        ({"chs_info": make_chs_info("misc")}, "type eeg, but got none among 1 chan"),
        ({"eye_channels": [2, 4]}, r"positions below 4, but \[4\] are not"),
        ({"eye_channels": ["pupil"]}, r"\['pupil'\] are not .* no chs_info"),
        ({"chs_info": MIXED, "eye_channels": ["C0", "C9"]}, r"\['C9'\] are not"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_model(**settings)


@pytest.mark.parametrize("shape", [(2, 3, 400), (2, 4, 401), (4, 400), (2, 1, 4, 400)])
def test_forward_rejects_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"= \(batch, 4, 400\), but got"):
        make_model()(torch.zeros(shape))


@pytest.mark.gpu
def test_cuda(model):
    x = make_input(model)
    expected = model(x), model.attention_weights(x)
    model.cuda()
    found = model(x.cuda()), model.attention_weights(x)
    torch.testing.assert_close(
        [f.cpu() for f in found], list(expected), atol=1e-4, rtol=1e-3
    )
