"""The soft contrastive loss against a slow reference, and its properties."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from braindecode_emossl.losses import SoftContrastiveLoss

METRICS = ("cosine", "euclidean", "manhattan")


def slow_distance(a, b, metric):
    """Distance of two flat lists of numbers."""
    if metric == "euclidean":
        return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))
    if metric == "manhattan":
        return sum(abs(x - y) for x, y in zip(a, b, strict=True))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return -dot / norm if norm > 0 else 0.0


def slow_weights(rows, upper_bound, sharpness, metric, scaling):
    """Soft weight of every pair, entry by entry."""
    n = len(rows)
    distance = [
        [slow_distance(rows[i], rows[j], metric) for j in range(n)] for i in range(n)
    ]
    smallest = min(distance[i][j] for i, j in itertools.permutations(range(n), 2))
    for i in range(n):
        distance[i][i] = smallest
    weights = [[0.0] * n for _ in range(n)]
    for i, j in itertools.product(range(n), repeat=2):
        if scaling == "column":
            group = [distance[k][j] for k in range(n)]
        else:
            group = [d for row in distance for d in row]
        span = max(group) - min(group)
        scaled = (distance[i][j] - min(group)) / span if span > 1e-12 else 0.0
        weights[i][j] = 2 * upper_bound / (1 + math.exp(scaled / sharpness))
    return weights


def slow_loss(
    embeddings, inputs, n_views, *, upper_bound, sharpness, temperature, **kw
):
    """Compute the loss as the equation with nested loops."""
    z = embeddings.tolist()
    rows = inputs.flatten(1).tolist()
    n = len(z)
    batch = n // n_views
    weights = slow_weights(rows, upper_bound, sharpness, kw["metric"], kw["scaling"])
    total = 0.0
    for i in range(n):
        logit = [
            sum(a * b for a, b in zip(z[i], z[k], strict=True)) / temperature
            for k in range(n)
        ]
        highest = max(logit[k] for k in range(n) if k != i)
        norm = highest + math.log(
            sum(math.exp(logit[k] - highest) for k in range(n) if k != i)
        )
        for j in range(n):
            if j == i:
                continue
            weight = 1.0 if (i - j) % batch == 0 else weights[i][j]
            total += weight * (logit[j] - norm)
    return -total / (n * (n - 1))


def draw(n_rows, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n_rows, 6, generator=generator, dtype=dtype)
    inputs = torch.randn(n_rows, 4, 3, generator=generator, dtype=dtype)
    return embeddings, inputs


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scaling", ["global", "column"])
@pytest.mark.parametrize(
    ("batch", "n_views"), [(1, 2), (2, 2), (7, 2), (4, 3), (20, 2)]
)
@pytest.mark.parametrize(
    ("upper_bound", "sharpness", "temperature"),
    [(0.5, 0.05, 0.5), (0.75, 0.5, 0.5), (1.0, 0.2, 0.05)],
)
def test_equals_slow_reference(
    metric, scaling, batch, n_views, upper_bound, sharpness, temperature
):
    settings = {
        "upper_bound": upper_bound,
        "sharpness": sharpness,
        "temperature": temperature,
        "metric": metric,
        "scaling": scaling,
    }
    embeddings, inputs = draw(batch * n_views, seed=batch)
    loss, similarity = SoftContrastiveLoss(**settings)(embeddings, inputs, n_views)
    expected = slow_loss(embeddings, inputs, n_views, **settings)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(similarity, embeddings @ embeddings.T)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scaling", ["global", "column"])
def test_soft_weights_equal_slow_reference(metric, scaling):
    _, inputs = draw(9)
    inputs[3] = 0.0  # a window that is masked entirely
    weights = SoftContrastiveLoss(metric=metric, scaling=scaling).soft_weights(inputs)
    expected = slow_weights(inputs.flatten(1).tolist(), 0.5, 0.05, metric, scaling)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


def test_single_precision_agrees_with_double():
    embeddings, inputs = draw(32)
    double, _ = SoftContrastiveLoss()(embeddings, inputs, 2)
    single, _ = SoftContrastiveLoss()(embeddings.float(), inputs.float(), 2)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(double.item(), rel=1e-5)


def test_gradient_is_that_of_the_loss():
    embeddings, inputs = draw(8)
    loss = SoftContrastiveLoss()
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, inputs, 2)[0], (embeddings,))


def test_no_gradient_through_the_soft_weights():
    embeddings, inputs = draw(8)
    inputs.requires_grad_()
    embeddings.requires_grad_()
    loss, similarity = SoftContrastiveLoss()(embeddings, inputs, 2)
    (loss + similarity.sum()).backward()
    assert inputs.grad is None
    assert embeddings.grad.isfinite().all()


def test_arguments_are_left_as_they_are():
    """The authors' code divides the similarity it returns by the temperature."""
    embeddings, inputs = draw(8)
    before = embeddings.clone(), inputs.clone()
    _, similarity = SoftContrastiveLoss(temperature=0.05)(embeddings, inputs, 2)
    torch.testing.assert_close(embeddings, before[0], rtol=0, atol=0)
    torch.testing.assert_close(inputs, before[1], rtol=0, atol=0)
    torch.testing.assert_close(similarity, embeddings @ embeddings.T, rtol=0, atol=0)


@pytest.mark.parametrize("metric", METRICS)
def test_only_global_scaling_keeps_the_weights_symmetric(metric):
    _, inputs = draw(12)
    symmetric = SoftContrastiveLoss(metric=metric, sharpness=0.5).soft_weights(inputs)
    torch.testing.assert_close(symmetric, symmetric.T)
    official = SoftContrastiveLoss(metric=metric, sharpness=0.5, scaling="column")
    weights = official.soft_weights(inputs)
    assert (weights - weights.T).abs().max() > 0.01


@pytest.mark.parametrize("metric", METRICS)
def test_closest_pair_has_the_upper_bound(metric):
    _, inputs = draw(6)
    inputs[4] = inputs[1]
    weights = SoftContrastiveLoss(0.75, metric=metric).soft_weights(inputs)
    off_diagonal = weights[~torch.eye(6, dtype=torch.bool)]
    assert weights[1, 4].item() == pytest.approx(0.75)
    assert off_diagonal.max().item() == pytest.approx(0.75)
    assert off_diagonal.min() > 0


def test_order_of_samples_and_of_views_does_not_matter():
    embeddings, inputs = draw(10)
    loss, _ = SoftContrastiveLoss()(embeddings, inputs, 2)
    samples = torch.randperm(5, generator=torch.Generator().manual_seed(0))
    for order in (torch.cat([samples, samples + 5]), torch.arange(10).roll(5)):
        other, _ = SoftContrastiveLoss()(embeddings[order], inputs[order], 2)
        assert other.item() == pytest.approx(loss.item())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scaling", ["global", "column"])
@pytest.mark.parametrize("value", [0.0, 0.3, 1e3])
def test_equal_inputs_do_not_divide_by_zero(metric, scaling, value):
    embeddings, inputs = draw(40, dtype=torch.float32)
    inputs = torch.full_like(inputs, value)
    criterion = SoftContrastiveLoss(metric=metric, scaling=scaling)
    weights = criterion.soft_weights(inputs)
    torch.testing.assert_close(weights, torch.full_like(weights, 0.5))
    assert criterion(embeddings, inputs, 2)[0].isfinite()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scaling", ["global", "column"])
def test_the_unit_of_the_inputs_does_not_matter(metric, scaling):
    """Distances of volts counted as equal, and all weights were the upper bound."""
    _, inputs = draw(6, dtype=torch.float32)
    criterion = SoftContrastiveLoss(metric=metric, scaling=scaling)
    weights = criterion.soft_weights(inputs)
    torch.testing.assert_close(criterion.soft_weights(inputs * 1e-7), weights)


def test_autocast_keeps_the_dot_products_in_single_precision():
    """Dot products of plain embeddings overflow half precision above 65504."""
    embeddings, inputs = draw(8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.float16):
        loss, similarity = SoftContrastiveLoss()(1e3 * embeddings, inputs, 2)
    assert similarity.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"upper_bound": 0},
            "upper_bound must be greater than 0 and at most 1 .* got 0",
        ),
        ({"upper_bound": 1.5}, "got 1.5"),
        ({"sharpness": 0.0}, "sharpness must be greater than 0, but got 0.0"),
        ({"temperature": -1}, "temperature must be greater than 0, but got -1"),
        ({"temperature": math.nan}, "temperature must be greater than 0, but got nan"),
        ({"sharpness": "0.1"}, "sharpness must be greater than 0, but got '0.1'"),
        ({"metric": "cos"}, "metric must be one of .* got 'cos'"),
        ({"scaling": "row"}, "scaling must be one of .* got 'row'"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        SoftContrastiveLoss(**settings)


@pytest.mark.parametrize(
    ("n_embeddings", "n_inputs", "n_views", "message"),
    [
        (5, 5, 2, "positive multiple of n_views=2 rows, but got 5"),
        (0, 0, 2, "positive multiple of n_views=2 rows, but got 0"),
        (4, 4, 1, "n_views must be at least 2 .* got 1"),
        (4, 6, 2, "same number of rows, but got 4 and 6"),
    ],
)
def test_forward_rejects(n_embeddings, n_inputs, n_views, message):
    with pytest.raises(ValueError, match=message):
        SoftContrastiveLoss()(
            torch.ones(n_embeddings, 3), torch.ones(n_inputs, 3), n_views
        )
