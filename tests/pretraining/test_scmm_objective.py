"""The pre-training objective of SCMM, against a slow reference where it has a value."""

from __future__ import annotations

import math

import pytest
import torch

from braindecode_emossl.augmentation import sample_hybrid_mask
from braindecode_emossl.models import SCMM
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)
from braindecode_emossl.pretraining.scmm import SCMMPretraining


def make_objective(n_chans=4, n_outputs=3, **kwargs):
    """Build an objective on DE with weights that do not depend on the test order."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = SCMM(
            n_outputs=n_outputs, n_chans=n_chans, n_times=5, input_domain="de"
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


def slow_terms(objective, views, n_views, *, alpha, sharpness, tau, column, original):
    """Compute both terms with loops, from the embeddings of the trained parts."""
    hidden = objective.encoder.encode(views)
    z = objective.projector(hidden)
    if objective.normalize:
        z = z / z.norm(dim=1, keepdim=True)
    n = len(views)
    batch = n // n_views
    flat = views.flatten(1)
    distance = torch.zeros(n, n, dtype=views.dtype)
    for i in range(n):
        for j in range(n):
            distance[i, j] = -(flat[i] @ flat[j]) / (flat[i].norm() * flat[j].norm())
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    lowest = min(distance[i, j].item() for i, j in pairs)
    highest = max(distance[i, j].item() for i, j in pairs)

    contrastive = 0.0
    squares = 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        weight = {j: math.exp((z[i] @ z[j]).item() / tau) for j in others}
        norm = sum(weight.values())
        aggregated = sum(weight[j] / norm * hidden[j] for j in others)
        target = flat[i % batch] if original else flat[i]
        squares += (objective.decoder(aggregated) - target).square().mean().item()
        for j in others:
            top = highest
            if column:
                top = max(distance[k, j].item() for k in range(n) if k != j)
            scaled = (distance[i, j].item() - lowest) / (top - lowest)
            soft = 2 * alpha / (1 + math.exp(scaled / sharpness))
            if (j - i) % batch == 0:
                soft = 1.0
            contrastive -= soft * math.log(weight[j] / norm)
    return contrastive / (n * (n - 1)), squares / n


@pytest.mark.parametrize("n_views", [2, 3])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    ("settings", "column", "original"),
    [
        ({}, False, True),
        ({"preset": "legacy"}, True, False),
        ({"preset": "legacy", "scaling": "global"}, False, False),
        ({"reconstruction_target": "input"}, False, False),
    ],
)
def test_compute_loss_equals_slow_reference(
    n_views, normalize, settings, column, original
):
    objective = make_objective(
        upper_bound=0.75,
        sharpness=0.5,
        temperature=0.3,
        normalize=normalize,
        **settings,
    ).double()
    with torch.no_grad():
        objective.total_loss.scales.copy_(torch.tensor([0.8, 1.3]))
    views = make_views(n_views=n_views).double()
    output = objective.compute_loss(views, n_views)
    contrastive, reconstruction = slow_terms(
        objective,
        views,
        n_views,
        alpha=0.75,
        sharpness=0.5,
        tau=0.3,
        column=column,
        original=original,
    )
    assert output.terms["contrastive"].item() == pytest.approx(contrastive, rel=1e-9)
    assert output.terms["reconstruction"].item() == pytest.approx(
        reconstruction, rel=1e-9
    )
    total = sum(
        term / (2 * s * s) + math.log(1 + s * s)
        for term, s in zip(
            (contrastive, reconstruction),
            objective.total_loss.scales.tolist(),
            strict=True,
        )
    )
    assert output.loss.item() == pytest.approx(total, rel=1e-9)


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


def test_compute_loss_is_deterministic_in_train_mode():
    objective = make_objective().train()
    views = make_views()
    before = torch.get_rng_state()
    first, second = objective.compute_loss(views), objective.compute_loss(views)
    assert first.loss.item() == second.loss.item()
    assert torch.equal(torch.get_rng_state(), before)


def test_forward_masks_a_copy():
    """Entries that are masked are zero in the second half, and only there."""
    objective = make_objective(mask_ratio=0.4, mask_threshold=0.3)
    seen = []
    objective.compute_loss = seen.append
    x = make_windows(200) + 1
    objective(x)
    originals, masked = seen[0].chunk(2)
    torch.testing.assert_close(originals, x)
    is_masked = masked == 0
    torch.testing.assert_close(masked[~is_masked], x[~is_masked])
    assert is_masked.float().mean().item() == pytest.approx(0.4, abs=0.05)


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
    default, legacy = make_objective(), make_objective(preset="legacy")
    assert default.contrastive_loss.scaling == "global"
    assert default.reconstruction_target == "original"
    assert legacy.contrastive_loss.scaling == "column"
    assert legacy.reconstruction_target == "input"
    mixed = make_objective(preset="legacy", reconstruction_target="original")
    assert mixed.contrastive_loss.scaling == "column"
    assert mixed.reconstruction_target == "original"


def test_prepare_fits_the_scaling_of_the_encoder():
    objective = make_objective()
    x = 7 * make_windows(30) - 3
    objective.prepare(x)
    features = objective.encoder.extract_features(x)
    torch.testing.assert_close(features.amin(dim=0), torch.zeros(4, 5))
    torch.testing.assert_close(features.amax(dim=0), torch.ones(4, 5))


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
        ValueError, match="at least two windows in a batch, got 2 views"
    ):
        make_objective()(make_windows(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "paper"}, "preset must be one of .* got 'paper'"),
        ({"reconstruction_target": "mask"}, "reconstruction_target must be one of"),
        ({"mask_ratio": 1.2}, r"mask_ratio must be in the interval \[0, 1\], got 1.2"),
        ({"mask_threshold": -1}, r"mask_threshold must be in the interval \[0, 1\]"),
        ({"scaling": "row"}, "scaling must be one of"),
        ({"temperature": 0}, "temperature must be greater than 0"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_objective(**settings)


def test_encoder_must_be_a_built_model():
    with pytest.raises(TypeError, match="already built, got 'SCMM'"):
        SCMMPretraining("SCMM")
