"""The pre-training objective of SCMM, against a slow reference where it has a value."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from braindecode_emossl.augmentation import sample_hybrid_mask
from braindecode_emossl.models import SCMM
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)
from braindecode_emossl.pretraining.scmm import SCMMPretraining


def make_objective(n_chans=4, n_outputs=3, drop_prob=0.0, **kwargs):
    """Build an objective on DE with weights that do not depend on the test order."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SCMM(
            n_outputs=n_outputs,
            n_chans=n_chans,
            n_times=5,
            input_domain="de",
            drop_prob=drop_prob,
        )
        return SCMMPretraining(encoder, **kwargs)


def make_windows(n_windows=6, seed=0, n_chans=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_windows, n_chans, 5, generator=generator)


def make_views(n_windows=6, n_views=2, seed=0):
    """Return originals, then copies with entries set to zero."""
    windows = make_windows(n_windows, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    copies = [
        windows.masked_fill(
            sample_hybrid_mask(n_windows, 4, 5, generator=generator), 0.0
        )
        for _ in range(n_views - 1)
    ]
    return torch.cat([windows, *copies])


class OfficialModule(nn.Module):
    """The pre-training module, term by term as the equations stand, for checks.

    Five bands alone, distances of all pairs at once through an (N, N, D) tensor, soft
    weights scaled by scikit-learn, and names of layers that are not those here.
    """

    def __init__(self, n_chans, n_bands=5):
        super().__init__()
        self.conv_block1 = self._block(n_chans, 32)
        self.conv_block2 = self._block(32, 64)
        self.conv_block3 = self._block(64, 128)
        self.dense = nn.Sequential(
            nn.Linear(128 * (n_bands + 1) // 2, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Linear(256, 128),
        )
        self.awl = nn.Module()
        self.awl.params = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(128 * (n_bands + 1) // 2, n_chans * n_bands)

    @staticmethod
    def _block(n_in, n_out):
        return nn.Sequential(
            nn.Conv1d(n_in, n_out, kernel_size=8, stride=1, bias=False, padding=4),
            nn.BatchNorm1d(n_out),
            nn.ReLU(),
            nn.MaxPool1d(kernel_size=2, stride=2, padding=1),
        )

    def encode(self, x):
        h = self.conv_block3(self.conv_block2(self.conv_block1(x)))
        return h.reshape(len(h), -1)

    def forward(
        self, x, n_views, *, alpha, sharpness, tau, metric, column, target, normalize
    ):
        """Return the contrastive, the reconstruction and the total loss."""
        n = len(x)
        h = self.encode(x)
        z = self.dense(h)
        if normalize:
            z = z / z.norm(dim=1, keepdim=True)
        sim = z @ z.T
        weights = torch.as_tensor(
            self._weights(x.flatten(1), alpha, sharpness, metric, column)
        ).to(x)

        batch = n // n_views
        contrastive = 0.0
        for i in range(n):
            others = [j for j in range(n) if j != i]
            log_q = (sim[i, others] / tau).log_softmax(dim=0)
            for j, value in zip(others, log_q, strict=True):
                is_positive = (j - i) % batch == 0
                contrastive = contrastive - value * (
                    1.0 if is_positive else weights[i, j]
                )
        contrastive = contrastive / (n * (n - 1))

        attention = (sim / tau - 1e12 * torch.eye(n).to(x)).softmax(dim=-1)
        rebuilt = self.head(attention @ h).reshape(x.shape)
        if target == "original":
            x = x[:batch].repeat(n_views, 1, 1)
        reconstruction = nn.MSELoss()(rebuilt, x)
        total = 0.0
        for loss, s in zip((contrastive, reconstruction), self.awl.params, strict=True):
            total = total + 0.5 / s**2 * loss + torch.log(1 + s**2)
        return contrastive, reconstruction, total

    @staticmethod
    def _weights(flat, alpha, sharpness, metric, column):
        one, other = flat[:, None], flat[None, :]  # both to be expanded to (N, N, D)
        if metric == "cosine":
            distance = -nn.functional.cosine_similarity(one, other, dim=-1)
        else:
            order = 1 if metric == "manhattan" else 2
            distance = (one - other).norm(p=order, dim=-1)
        distance = distance.detach().numpy()
        np.fill_diagonal(distance, np.inf)
        np.fill_diagonal(distance, distance.min())
        shape = distance.shape
        if not column:
            distance = distance.reshape(-1, 1)
        scaled = MinMaxScaler().fit_transform(distance).reshape(shape)
        return 2 * alpha / (1 + np.exp(scaled / sharpness))


def assert_equals_official(objective, official, views, n_views, rtol):
    """Compare terms, total and the gradient of each weight."""
    loss = objective.contrastive_loss
    output = objective.compute_loss(views, n_views)
    contrastive, reconstruction, total = official(
        views,
        n_views,
        alpha=loss.upper_bound,
        sharpness=loss.sharpness,
        tau=loss.temperature,
        metric=loss.metric,
        column=loss.scaling == "column",
        target=objective.reconstruction_target,
        normalize=objective.normalize,
    )
    for ours, theirs in (
        (output.terms["contrastive"], contrastive),
        (output.terms["reconstruction"], reconstruction),
        (output.loss, total),
    ):
        assert ours.item() == pytest.approx(theirs.item(), rel=rtol)
    output.loss.backward()
    total.backward()
    ours = gradients(
        objective.encoder.blocks,
        objective.projector,
        objective.decoder,
        objective.total_loss,
    )
    blocks = (official.conv_block1, official.conv_block2, official.conv_block3)
    theirs = gradients(*blocks, official.dense, official.head, official.awl)
    rounding = 100 * torch.finfo(views.dtype).eps * max(map(torch.norm, theirs))
    for gradient, other in zip(ours, theirs, strict=True):
        # Before a batch normalisation, a bias has a gradient of rounding alone.
        assert (gradient - other).norm() <= rtol * other.norm() + rounding * (
            other.norm() < rounding
        )


def gradients(*modules):
    return [p.grad for module in modules for p in module.parameters()]


def make_pair(n_chans=4, **kwargs):
    """Return an objective and an official module of the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        official = OfficialModule(n_chans)
        with torch.no_grad():
            for parameter in official.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    objective = make_objective(n_chans, **kwargs)
    objective.load_official_state_dict(official.state_dict())
    return objective, official


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "official"},
        {"preset": "default"},
        {"preset": "official", "scaling": "global"},
        {"preset": "official", "metric": "euclidean"},
        {"preset": "default", "metric": "manhattan"},
        {"preset": "default", "reconstruction_target": "input"},
    ],
)
@pytest.mark.parametrize(("n_windows", "n_views"), [(2, 2), (7, 2), (5, 3), (3, 4)])
def test_losses_and_gradients_equal_slow_reference(
    n_windows, n_views, settings, normalize
):
    objective, official = make_pair(
        upper_bound=0.75,
        sharpness=0.5,
        temperature=0.3,
        normalize=normalize,
        **settings,
    )
    views = make_views(n_windows, n_views).double()
    assert_equals_official(objective.double(), official.double(), views, n_views, 1e-9)


@pytest.mark.parametrize(
    ("n_chans", "upper_bound", "sharpness", "temperature"),
    [(62, 0.75, 0.5, 0.5), (62, 0.5, 0.05, 0.5), (32, 0.5, 0.2, 0.05)],
)
def test_official_in_single_precision_with_the_released_settings(
    n_chans, upper_bound, sharpness, temperature
):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        official = OfficialModule(n_chans)
    objective = make_objective(
        n_chans,
        preset="official",
        upper_bound=upper_bound,
        sharpness=sharpness,
        temperature=temperature,
    )
    objective.load_official_state_dict(official.state_dict())
    windows = make_windows(16, n_chans=n_chans)
    generator = torch.Generator().manual_seed(5)
    mask = sample_hybrid_mask(16, n_chans, 5, generator=generator)
    views = torch.cat([windows, windows.masked_fill(mask, 0.0)])
    assert_equals_official(objective, official, views, 2, 1e-5)


@pytest.mark.parametrize("order", ["as built", "decoder first", "prefixed"])
def test_official_weights_give_the_official_outputs(order):
    objective, official = make_pair()
    state = official.state_dict()
    if order == "decoder first":
        state = dict(
            sorted(state.items(), key=lambda item: not item[0].startswith("head"))
        )
    elif order == "prefixed":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    x = make_windows(8)
    official.encode(x)  # moves the running statistics
    before = copy.deepcopy(objective.encoder.final_layer.state_dict())
    objective.load_official_state_dict(state)
    assert torch.equal(
        objective.encoder.blocks[0][1].running_mean,
        official.conv_block1[1].running_mean,
    )
    objective.eval()
    official.eval()
    hidden = objective.encoder.encode(x)
    assert torch.equal(hidden, official.encode(x))
    assert torch.equal(objective.projector(hidden), official.dense(hidden))
    assert torch.equal(objective.decoder(hidden), official.head(hidden))
    assert torch.equal(objective.total_loss.scales, official.awl.params)
    for name, tensor in objective.encoder.final_layer.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_layers_of_equal_shapes_are_taken_in_order():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SCMM(
            n_outputs=2, n_chans=8, n_times=5, input_domain="de", n_filters=(8, 8, 8)
        )
    source, target = SCMMPretraining(encoder), SCMMPretraining(copy.deepcopy(encoder))
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.copy_(torch.rand_like(parameter))
    skipped = ("encoder.final_layer", "encoder.feature")
    state = source.state_dict()
    target.load_official_state_dict(
        {name: state[name] for name in state if not name.startswith(skipped)}
    )
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, state[name]) or name.startswith(skipped), name


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"conv_block2.0.weight": None},
            ValueError,
            r"shapes \[\(64, 32, 8\)\] for encoder.blocks.1.0, but the layers left",
        ),
        (
            {"head.weight": torch.zeros(310, 384), "head.bias": torch.zeros(310)},
            ValueError,
            r"\[\(20, 384\), \(20,\)\] for decoder, .* 'head': \[\(310, 384\)",
        ),
        (
            {"classifier.weight": torch.zeros(3, 384)},
            ValueError,
            r"classifier of the shapes \[\(3, 384\)\] has no counterpart",
        ),
        ({"optimizer": {}}, TypeError, "but 'optimizer' is a dict; of a checkpoint"),
    ],
)
def test_state_dicts_that_do_not_fit_are_refused_and_change_nothing(
    change, error, message
):
    objective, official = make_pair()
    before = copy.deepcopy(objective.state_dict())
    with torch.no_grad():
        official.awl.params.fill_(9)
    state = {**official.state_dict(), **change}
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    with pytest.raises(error, match=message):
        objective.load_official_state_dict(state)
    for name, tensor in objective.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("n_chans", "total"), [(62, 349_560), (32, 284_130)])
def test_parameter_counts_of_the_official_code(n_chans, total):
    objective = make_objective(n_chans=n_chans)
    head = set(objective.encoder.final_layer.parameters())
    counted = [p for p in objective.parameters() if p not in head]
    assert sum(p.numel() for p in counted) == total


def test_output():
    objective = make_objective()
    assert isinstance(objective, PretrainingObjective)
    output = objective(make_windows())
    assert isinstance(output, PretrainingOutput)
    assert output.loss.shape == ()
    assert output.terms.keys() == {"contrastive", "reconstruction"}
    for term in output.terms.values():
        assert term.shape == ()
        assert not term.requires_grad


def test_gradients_reach_everything_but_the_classification_head():
    objective = make_objective()
    objective(make_windows()).loss.backward()
    for name, parameter in objective.named_parameters():
        if name.startswith("encoder.final_layer"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_same_generator_same_loss():
    objective = make_objective()
    x = make_windows()

    def loss(seed):
        return objective(x, torch.Generator().manual_seed(seed)).loss.item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_global_seed_same_loss():
    objective = make_objective()
    x = make_windows()
    losses = []
    with torch.random.fork_rng():
        for _ in range(2):
            torch.manual_seed(3)
            losses.append(objective(x).loss.item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize("n_views", [2, 3])
def test_compute_loss_is_deterministic_in_train_mode(n_views):
    """Dropout of the classification head has no part in it."""
    objective = make_objective(drop_prob=0.5).train()
    views = make_views(n_views=n_views)
    seen = views.clone()
    before = torch.get_rng_state()
    losses, gradients = [], []
    for _ in range(2):
        objective.zero_grad()
        output = objective.compute_loss(views, n_views)
        output.loss.backward()
        losses.append(output.loss.item())
        gradients.append(objective.encoder.blocks[0][0].weight.grad.clone())
    assert losses[0] == losses[1]
    assert torch.equal(*gradients)
    assert torch.equal(views, seen)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_masked_views", [1, 3])
def test_forward_masks_copies(n_masked_views):
    """Entries that are masked are zero in the copies, and only there."""
    objective = make_objective(
        mask_ratio=0.4, mask_threshold=0.3, n_masked_views=n_masked_views
    )
    seen = {}
    objective.compute_loss = lambda views, n_views: seen.update({n_views: views})
    x = make_windows(200) + 1
    objective(x)
    assert list(seen) == [1 + n_masked_views]
    originals, *copies = seen[1 + n_masked_views].split(200)
    torch.testing.assert_close(originals, x)
    assert len(copies) == n_masked_views
    for masked in copies:
        is_masked = masked == 0
        torch.testing.assert_close(masked[~is_masked], x[~is_masked])
        assert is_masked.float().mean().item() == pytest.approx(0.4, abs=0.05)
        assert (masked != copies[0]).any() or masked is copies[0]


def test_a_row_is_not_reconstructed_from_itself():
    """However similar a row is to itself, it is averaged from the others alone."""
    objective = make_objective().double().eval()
    hidden = torch.randn(4, 384, generator=torch.Generator().manual_seed(0)).double()
    similarity = torch.eye(4).double() * 1e3
    expected = [
        objective.decoder(hidden[[j for j in range(4) if j != i]].mean(dim=0))
        for i in range(4)
    ]
    reconstructed = objective._reconstruct(hidden, similarity)
    assert reconstructed.shape == (4, 4, 5)
    torch.testing.assert_close(reconstructed.flatten(1), torch.stack(expected))
    assert similarity[0, 0] == 1e3


def test_presets():
    default, official = make_objective(), make_objective(preset="official")
    assert default.contrastive_loss.scaling == "global"
    assert default.reconstruction_target == "original"
    assert official.contrastive_loss.scaling == "column"
    assert official.reconstruction_target == "input"
    mixed = make_objective(preset="official", reconstruction_target="original")
    assert mixed.contrastive_loss.scaling == "column"
    assert mixed.reconstruction_target == "original"
    assert default.contrastive_loss.temperature == 0.1
    assert default.normalize
    assert official.contrastive_loss.temperature == 0.5
    assert not official.normalize


def test_prepare_fits_the_scaling_of_the_encoder():
    objective = make_objective()
    x = 7 * make_windows(30) - 3
    objective.prepare(x)
    features = objective.encoder.extract_features(x)
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(4, 5))
    torch.testing.assert_close(features.std(dim=0, correction=0), torch.ones(4, 5))


def test_prepare_does_nothing_by_default():
    assert PretrainingObjective(torch.nn.Identity()).prepare(make_windows()) is None


def test_raw_windows():
    encoder = SCMM(n_outputs=2, n_chans=3, n_times=200, sfreq=200)
    objective = SCMMPretraining(encoder)
    x = torch.randn(8, 3, 200, generator=torch.Generator().manual_seed(0))
    objective.prepare(x)
    objective(x).loss.backward()
    assert encoder.blocks[0][0].weight.grad.isfinite().all()


def test_loss_falls():
    objective = make_objective()
    views = make_views(32)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        output = objective.compute_loss(views)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_autocast():
    objective = make_objective()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = objective(make_windows())
    output.loss.backward()
    assert output.loss.isfinite()


def test_rejects_a_single_window():
    with pytest.raises(
        ValueError, match="at least two windows in a batch, but got 2 views"
    ):
        make_objective()(make_windows(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "paper"}, "preset must be one of .* got 'paper'"),
        ({"reconstruction_target": "mask"}, "reconstruction_target must be one of"),
        (
            {"mask_ratio": 1.2},
            r"mask_ratio must be in the interval \[0, 1\], but got 1.2",
        ),
        ({"mask_threshold": -1}, r"mask_threshold must be in the interval \[0, 1\]"),
        ({"n_masked_views": 0}, "n_masked_views must be at least 1, but got 0"),
        ({"scaling": "row"}, "scaling must be one of"),
        ({"temperature": 0}, "temperature must be greater than 0"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_objective(**settings)


def test_encoder_must_be_a_built_model():
    with pytest.raises(TypeError, match="already built, but got 'SCMM'"):
        SCMMPretraining("SCMM")
