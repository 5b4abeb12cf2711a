"""Masked prediction of clusters: targets, masks, loss, and training with both."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch.utils.data import DataLoader

from braindecode_emossl.features import differential_entropy
from braindecode_emossl.models import SCMM, MaskedClusterTransformer
from braindecode_emossl.pretraining import (
    MaskedClusterPretraining,
    PretrainingObjective,
    PretrainingOutput,
    SSLClassifier,
    SSLPretrainer,
    load_checkpoint,
    save_checkpoint,
)

SMALL = {
    "n_filters": 16,
    "emb_dim": 32,
    "n_layers": 3,
    "n_heads": 4,
    "dim_feedforward": 48,
}
N_TOKENS = 12


def make_objective(model=None, **kwargs):
    """Build a small objective with weights that do not depend on the test order."""
    model = {
        "n_outputs": 2,
        "n_chans": 3,
        "n_times": 192,
        "sfreq": 128,
        **(model or {}),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = MaskedClusterTransformer(**{**SMALL, **model})
        settings = {"n_clusters": (6, 4), "code_dim": 16, "random_state": 0, **kwargs}
        return MaskedClusterPretraining(encoder, **settings)


def make_windows(n_windows=8, seed=0):
    """Noise (n_windows, 3, 192) whose power changes every second or third token."""
    rng = np.random.default_rng(seed)
    gain = np.repeat(rng.choice([3.0, 30.0], size=(n_windows, 3, 6)), 32, axis=-1)
    return torch.as_tensor(gain * rng.normal(size=(n_windows, 3, 192))).float()


def make_batch(objective, seed=1):
    x = make_windows(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    return x, objective.compute_targets(x), objective.sample_mask(len(x), generator)


@pytest.fixture
def objective():
    objective = make_objective()
    objective.fit_clusters(make_windows(30))
    return objective


def test_output(objective):
    assert isinstance(objective, PretrainingObjective)
    output = objective(make_windows())
    assert isinstance(output, PretrainingOutput)
    assert output.loss.shape == ()
    assert output.terms.keys() == {"prediction"}
    assert not output.terms["prediction"].requires_grad


def test_first_targets_are_clusters_of_band_power(objective):
    x = make_windows()
    targets = objective.compute_targets(x)
    assert targets.shape == (8, N_TOKENS, 2)
    assert targets.dtype == torch.int64
    power = differential_entropy(x, 128, window=0.125)
    assert power.shape == (8, N_TOKENS, 3, 5)
    expected = objective.clusters["band_power"](power.flatten(2))
    assert torch.equal(targets, expected)
    assert (targets.amax(dim=(0, 1)) < torch.tensor([6, 4])).all()


def test_clusters_of_band_power_follow_the_power():
    objective = make_objective({"n_chans": 1}, n_clusters=(2,))
    x = make_windows(40)[:, :1]
    objective.fit_clusters(x)
    targets = objective.compute_targets(x)[..., 0].bool()
    is_loud = x.unflatten(2, (N_TOKENS, 16)).std(dim=-1)[:, 0] > 10
    agreement = (targets == is_loud).float().mean().item()
    assert max(agreement, 1 - agreement) > 0.9


def test_later_targets_are_clusters_of_the_layer_as_it_was(objective):
    """Targets must not change with the encoder until the next clustering."""
    x = make_windows(30)
    report = objective.fit_clusters(x, features="layer")
    assert report.features == "layer 2"
    encoder = objective.encoder.eval()
    hidden = encoder.encode(encoder.projection(encoder.extract_features(x)))[1]
    targets = objective.compute_targets(x)
    assert torch.equal(targets, objective.clusters["layer"](hidden))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert torch.equal(objective.train().compute_targets(x), targets)
    objective.fit_clusters(x, features="layer")
    assert not torch.equal(objective.compute_targets(x), targets)


def test_clusters_know_nothing_of_other_windows(objective):
    """The same training windows give the same clusters, whatever is asked of them."""
    state = copy.deepcopy(objective.clusters.state_dict())
    objective.compute_targets(1e3 * make_windows(seed=5))
    for name, tensor in objective.clusters.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_reports_and_the_limit_of_tokens():
    objective = make_objective(max_fit_tokens=100)
    objective.prepare(make_windows(30))
    objective.fit_clusters(make_windows(30).numpy(), features="layer")
    assert [report.features for report in objective.reports] == [
        "band_power",
        "layer 2",
    ]
    assert [report.n_tokens for report in objective.reports] == [96, 96]


def test_adaptive_number_of_clusters():
    objective = make_objective(n_clusters=(8, 12), adaptive_n_clusters=True)
    report = objective.fit_clusters(make_windows(30))
    assert [sorted(scores) for scores in report.silhouettes] == [[2, 4, 8], [3, 6, 12]]
    best = tuple(max(scores, key=scores.get) for scores in report.silhouettes)
    assert report.n_clusters == best
    batch = make_batch(objective)
    assert batch[1].amax(dim=(0, 1)).tolist() < list(best)
    # With embeddings of zero, all clusters in use are equally likely, and only they.
    for codes in objective.head.codes:
        torch.nn.init.zeros_(codes)
    expected = sum(math.log(size) for size in best)
    assert objective.compute_loss(*batch).loss.item() == pytest.approx(
        expected, rel=1e-5
    )


def test_loss_is_that_of_the_masked_tokens_summed_over_codebooks(objective):
    objective.eval()
    x, targets, mask = make_batch(objective)
    encoder = objective.encoder
    tokens = encoder.projection(encoder.extract_features(x)).clone()
    tokens[mask] = objective.mask_token
    hidden = encoder.encode(tokens)[-1]
    expected = 0.0
    for j, (projection, codes) in enumerate(
        zip(objective.head.projections, objective.head.codes, strict=True)
    ):
        predictions = projection(hidden[mask])
        logits = torch.cosine_similarity(predictions[:, None], codes, dim=-1) / 0.1
        picked = logits.log_softmax(dim=1).gather(1, targets[mask][:, j, None])
        expected -= picked.mean().item()
    output = objective.compute_loss(x, targets, mask)
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
    assert output.terms["prediction"].item() == pytest.approx(expected, rel=1e-5)


def test_what_is_masked_is_not_seen(objective):
    """A masked token alone in its samples must not change the loss."""
    objective.eval()
    x, targets, mask = make_batch(objective)
    mask[:] = True
    mask[:, 0] = False
    changed = x.clone()
    changed[..., 6 * 16 : 8 * 16] = 99.0
    first = objective.compute_loss(x, targets, mask).loss
    torch.testing.assert_close(
        objective.compute_loss(changed, targets, mask).loss, first
    )


def test_targets_of_visible_tokens_do_not_matter(objective):
    objective.eval()
    x, targets, mask = make_batch(objective)
    others = torch.where(mask[..., None], targets, (targets + 1) % 4)
    first = objective.compute_loss(x, targets, mask).loss
    assert objective.compute_loss(x, others, mask).loss == first


def test_optional_terms():
    weights = {"intermediate_weight": 0.5, "feature_penalty": 10.0}
    objective = make_objective(**weights).eval()
    objective.fit_clusters(make_windows(30))
    batch = make_batch(objective)
    loss, terms = objective.compute_loss(*batch)
    assert terms.keys() == {"prediction", "intermediate", "feature_penalty"}
    expected = (
        terms["prediction"]
        + 0.5 * terms["intermediate"]
        + 10 * terms["feature_penalty"]
    )
    torch.testing.assert_close(loss.detach(), expected)
    features = objective.encoder.extract_features(batch[0])
    torch.testing.assert_close(terms["feature_penalty"], features.square().mean())


def test_the_intermediate_loss_is_that_of_its_layer():
    """The layers above it get no gradient from it."""
    objective = make_objective(intermediate_weight=1.0, cluster_layer=1)
    objective.fit_clusters(make_windows(30))
    for parameter in objective.head.parameters():
        parameter.requires_grad_(False).zero_()
    objective(make_windows()).loss.backward()
    first, *others = objective.encoder.layers
    assert first.linear1.weight.grad.abs().sum() > 0
    assert all(layer.linear1.weight.grad.abs().sum() == 0 for layer in others)


def test_gradients_reach_all_that_predicts(objective):
    objective(make_windows()).loss.backward()
    for name, parameter in objective.named_parameters():
        if name.startswith(("encoder.norm", "encoder.final_layer", "target_encoder")):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_masks(objective):
    mask = objective.sample_mask(500, torch.Generator().manual_seed(0))
    assert mask.shape == (500, N_TOKENS)
    assert mask.dtype == torch.bool
    assert mask.any(dim=1).all()
    assert not mask.all(dim=1).any()


@pytest.mark.parametrize("sfreq", [128, 200, 250])
def test_half_a_second_is_enough(sfreq):
    objective = make_objective({"sfreq": sfreq, "n_times": sfreq // 2, "n_chans": 1})
    x = torch.randn(20, 1, sfreq // 2, generator=torch.Generator().manual_seed(0))
    objective.prepare(x)
    assert objective.compute_targets(x).shape == (20, objective.encoder.n_tokens, 2)
    assert objective(x[:1]).loss.isfinite()


def test_same_generator_same_loss(objective):
    objective.eval()
    x = make_windows()

    def loss(seed):
        return objective(x, torch.Generator().manual_seed(seed)).loss.item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_without_a_seed_the_global_generator_decides():
    x = make_windows(30)
    found = []
    with torch.random.fork_rng():
        for seed in (3, 3, 4):
            objective = make_objective(random_state=None, n_clusters=(7,))
            torch.manual_seed(seed)
            objective.fit_clusters(x)
            found.append(objective.clusters["band_power"].centroids[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_state_dict_and_pickle_hold_the_clusters(objective):
    objective.fit_clusters(make_windows(30), features="layer")
    other = make_objective(random_state=9)
    other.load_state_dict(objective.state_dict())
    again = pickle.loads(pickle.dumps(objective))
    x = make_windows()
    for copied in (other, again):
        assert torch.equal(copied.compute_targets(x), objective.compute_targets(x))


def test_a_new_clustering_forgets_what_was_learned_of_the_old(objective):
    codes = objective.head.codes[0].clone()
    projection = objective.head.projections[0].weight.clone()
    objective.fit_clusters(make_windows(30), features="layer")
    assert not torch.equal(objective.head.codes[0], codes)
    assert torch.equal(objective.head.projections[0].weight, projection)


def test_targets_do_not_depend_on_autocast(objective):
    objective.fit_clusters(make_windows(30), features="layer")
    x = make_windows()
    expected = objective.compute_targets(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(objective.compute_targets(x), expected)
        output = objective(x)
    output.loss.backward()
    assert output.loss.isfinite()


def test_what_gives_the_targets_is_frozen(objective):
    objective.train()
    assert objective.encoder.training
    assert not any(module.training for module in objective.target_encoder.modules())
    assert not any(p.requires_grad for p in objective.target_encoder.parameters())
    assert len(objective.target_encoder.layers) == objective.cluster_layer == 2


@pytest.mark.parametrize(
    ("recluster_every", "n_clusterings"), [(2, 3), (3, 2), (None, 1), (100, 1)]
)
def test_training_clusters_as_often_as_set(recluster_every, n_clusterings):
    objective = make_objective(recluster_every=recluster_every)
    pretrainer = SSLPretrainer(objective, max_epochs=5, batch_size=16, random_state=0)
    found = pretrainer.fit(make_windows(32).numpy()).module_
    assert len(found.reports) == n_clusterings
    expected = ["band_power", "layer 2", "layer 2"][:n_clusterings]
    assert [report.features for report in found.reports] == expected
    assert not objective.reports


def run_epochs(objective, losses):
    """Begin an epoch after each loss; return the number of clusterings so far."""
    X, found = make_windows(16), []
    for epoch, loss in enumerate(losses, start=1):
        objective.progress[0], objective.progress[1] = 4 * loss, 4
        objective.on_epoch_begin(epoch, X)
        found.append(len(objective.reports))
    return found


def test_the_layer_is_clustered_when_the_loss_no_longer_falls():
    objective = make_objective(recluster_every="plateau")
    objective.prepare(make_windows(16))
    guessing = objective.guessing_loss
    falling = [0.8 * guessing, 0.7 * guessing, 0.6 * guessing]
    found = run_epochs(objective, [*falling, *10 * [0.599 * guessing], 0.5 * guessing])
    assert found == [*12 * [1], 2, 2]
    assert objective.reports[-1].features == "layer 2"


def test_the_layer_is_not_clustered_while_the_loss_falls_slowly():
    """In 85 epochs, each of which lowered the loss by .4 %, it was clustered often.

    That cost the frozen features .07 of balanced accuracy.
    """
    objective = make_objective(recluster_every="plateau")
    objective.prepare(make_windows(16))
    guessing = objective.guessing_loss
    losses = 0.8 * guessing * 0.996 ** np.arange(85)
    assert run_epochs(objective, losses) == 85 * [1]


def test_a_loaded_objective_knows_the_loss_of_guessing(tmp_path):
    """It was that of the last report, of which a loaded objective has none.

    Numbers of recordings, whose scaling is not saved either, raised an IndexError.
    """
    X = make_windows(16)
    objective = make_objective()
    objective.prepare(X, pd.DataFrame({"subject": np.repeat([1, 2], 8)}))
    expected = np.log(objective.reports[-1].perplexity).sum()
    save_checkpoint(tmp_path / "a", objective)
    loaded = load_checkpoint(tmp_path / "a")
    assert loaded.guessing_loss == pytest.approx(expected, rel=1e-6)
    found = loaded.compute_targets(X, recordings=torch.arange(2).repeat_interleave(8))
    assert torch.equal(found, objective.compute_targets(X))


def test_the_first_clusters_stay_by_default():
    objective = make_objective()
    objective.prepare(make_windows(16))
    assert run_epochs(objective, 12 * [1.0]) == 12 * [1]


def test_the_layer_of_an_encoder_that_guesses_is_not_clustered():
    """Training on such clusters cost a probe .06: .392 against .450."""
    objective = make_objective(recluster_every="plateau")
    objective.prepare(make_windows(16))
    guessing = objective.guessing_loss
    assert run_epochs(objective, 12 * [0.95 * guessing]) == 12 * [1]


def test_the_training_loss_decides_on_the_next_clustering():
    objective = make_objective()
    objective.prepare(make_windows(16))
    loss = sum(objective(make_windows(16)).terms["prediction"] for _ in range(3))
    torch.testing.assert_close(
        objective.progress[:2], torch.stack([loss, torch.tensor(3.0)])
    )
    objective.eval()(make_windows(16))
    assert objective.progress[1] == 3


def test_targets_do_not_depend_on_the_gain_of_a_recording():
    """Without the metadata, the two halves fell into different clusters."""
    X = make_windows(32).numpy()
    X[16:] = 7 * X[:16]
    metadata = pd.DataFrame({"subject": np.repeat([1, 2], 16), "session": "0"})
    objective = make_objective(recluster_every=None)
    trained = SSLPretrainer(objective, max_steps=2, batch_size=16, random_state=0).fit(
        X, metadata=metadata
    )
    recordings = torch.arange(2).repeat_interleave(16)
    first, second = trained.module_.compute_targets(X, recordings).chunk(2)
    assert (first == second).float().mean() > 0.99
    first, second = trained.module_.compute_targets(X).chunk(2)
    assert (first == second).float().mean() < 0.5


@pytest.mark.parametrize("columns", [["subject"], ["corpus", "subject", "session"]])
def test_each_window_comes_with_the_number_of_its_recording(columns):
    seen = []

    class Recorder(MaskedClusterPretraining):
        def forward(self, x, generator=None, recordings=None):
            seen.append((self.training, recordings))
            return super().forward(x, generator, recordings)

    names = pd.DataFrame(
        {"corpus": "A", "subject": [3, 3, 1, 1, 2, 2], "session": list("010101")}
    )
    metadata = names.loc[np.repeat(np.arange(6), 8), columns].reset_index(drop=True)
    encoder = make_objective().encoder
    SSLPretrainer(
        Recorder(encoder, n_clusters=(3,), code_dim=4),
        max_epochs=1,
        batch_size=4,
        validation=0.3,
        random_state=0,
    ).fit(make_windows(48).numpy(), metadata=metadata)
    trained = torch.cat([numbers for training, numbers in seen if training])
    n_recordings = 2 * (len(columns) == 3) or 1
    assert trained.unique().tolist() == list(range(2 * n_recordings))
    validated = torch.cat([numbers for training, numbers in seen if not training])
    assert validated.unique().tolist() == [-1]


class OtherLoader(DataLoader):
    """A data loader of the user's, which might augment windows."""


def test_remembered_targets_are_those_of_each_batch():
    X = make_windows(40)
    metadata = pd.DataFrame({"subject": np.repeat([1, 2, 3, 4], 10)})

    def train(iterator):
        trained = SSLPretrainer(
            make_objective(recluster_every=2),
            batch_size=8,
            max_epochs=5,
            validation=0.25,
            iterator_train=iterator,
            device="cpu",
            random_state=0,
        ).fit(X, metadata=metadata)
        assert len(trained.module_.reports) == 3
        return trained.history[:, ("train_loss", "valid_loss")]

    np.testing.assert_allclose(train(DataLoader), train(OtherLoader), rtol=1e-6)


@pytest.mark.parametrize(
    ("iterator", "n_epochs_computed"), [(DataLoader, 2), (OtherLoader, 4)]
)
def test_targets_of_a_window_are_computed_once_a_clustering(
    iterator, n_epochs_computed
):
    """They were computed for every batch, three quarters of a small model's time."""
    n_computed = 0

    class Counting(MaskedClusterPretraining):
        def compute_targets(self, X, recordings=None):
            nonlocal n_computed
            n_computed += len(X)
            return super().compute_targets(X, recordings)

    objective = Counting(
        make_objective().encoder, n_clusters=(6, 4), code_dim=16, recluster_every=2
    )
    SSLPretrainer(
        objective, batch_size=8, max_epochs=4, iterator_train=iterator, device="cpu"
    ).fit(make_windows(40))
    assert n_computed == n_epochs_computed * 40


def test_a_training_that_continues_on_other_windows_has_their_targets():
    """The scaling of recordings, and targets, were those of the first windows."""
    seen = []

    class Recording(MaskedClusterPretraining):
        def compute_loss(self, X, targets, mask):
            seen.append((X, targets))
            return super().compute_loss(X, targets, mask)

    objective = Recording(
        make_objective().encoder, n_clusters=(6, 4), code_dim=16, recluster_every=None
    )
    pretrainer = SSLPretrainer(objective, batch_size=8, max_epochs=1, device="cpu")
    pretrainer.fit(
        make_windows(24), metadata=pd.DataFrame({"subject": np.repeat([1, 2, 3], 8)})
    )
    other = 5 * make_windows(16, seed=1)
    seen.clear()
    pretrainer.partial_fit(
        other, metadata=pd.DataFrame({"subject": np.repeat([4, 5], 8)})
    )
    fitted = pretrainer.module_
    assert len(fitted.clusters["band_power"].scaler.recording_means) == 2
    for x, targets in seen:
        # (batch, 16), one match in each row
        rows = (x[:, None] == other[None]).flatten(2).all(-1).int().argmax(1)
        assert torch.equal(targets, fitted.compute_targets(x, rows // 8))


def test_training_is_seeded():
    found = [
        SSLPretrainer(
            make_objective(random_state=None, recluster_every=1),
            max_epochs=2,
            batch_size=16,
            random_state=seed,
        )
        .fit(make_windows(32).numpy())
        .module_.encoder.projection[1]
        .weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_loss_falls():
    """Power that lasts over tokens can be predicted from the visible ones."""
    objective = make_objective(
        {"n_chans": 1, "n_layers": 1}, n_clusters=(2,), recluster_every=None
    )
    X = make_windows(64)[:, :1].clone()
    X[:32] *= 0.1  # quiet as a whole: any visible token shows it
    pretrainer = SSLPretrainer(
        objective, max_epochs=25, batch_size=16, lr=3e-3, random_state=0
    )
    losses = pretrainer.fit(X).history[:, "train_loss"]
    assert losses[-1] < 0.75 * math.log(2)


def test_rejects_what_has_no_clusters():
    with pytest.raises(NotFittedError, match="Call fit_clusters with the training"):
        make_objective()(make_windows())


def test_compute_loss_takes_any_targets_before_there_are_clusters():
    objective = make_objective()
    targets = torch.full((8, N_TOKENS, 2), 3)
    mask = objective.sample_mask(8)
    assert objective.compute_loss(make_windows(), targets, mask).loss.isfinite()


def test_rejects_wrong_shapes(objective):
    x, targets, mask = make_batch(objective)
    message = r"= \(8, 12, 2\) and mask of .* = \(8, 12\), but got"
    with pytest.raises(ValueError, match=message):
        objective.compute_loss(x, targets[..., 0], mask)
    with pytest.raises(ValueError, match=message):
        objective.compute_loss(x, targets, mask[:1])


def test_fit_clusters_rejects(objective):
    x = make_windows(30)
    with pytest.raises(ValueError, match=r"features must be one of .* got 'mfcc'"):
        objective.fit_clusters(x, features="mfcc")
    with pytest.raises(ValueError, match="at least one window, but got none"):
        objective.fit_clusters(x[:0])
    x[3, 1, 50] = torch.nan
    with pytest.raises(ValueError, match="finite features"):
        objective.fit_clusters(x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "legacy"}, "preset must be 'default', but got 'legacy'"),
        ({"n_clusters": ()}, "n_clusters must hold at least one integer from 2"),
        ({"n_clusters": (5, 1)}, r"at least one integer from 2, but got \(5, 1\)"),
        ({"mask_prob": 0}, r"mask_prob must be in \(0, 1\], but got 0"),
        ({"mask_length": 0}, "mask_length must be at least 1, but got 0"),
        ({"temperature": 0}, "temperature must be greater than 0"),
        ({"masked_weight": 2}, "masked_weight must be in the interval"),
        ({"intermediate_weight": -1}, "intermediate_weight must not be negative"),
        ({"feature_penalty": -1}, "feature_penalty must not be negative"),
        ({"cluster_layer": 4}, "cluster_layer must be a layer .* 1 to 3, but got 4"),
        ({"recluster_every": 0}, "a number of epochs, at least 1, but got 0"),
        ({"recluster_every": 2.5}, "a number of epochs, at least 1, but got 2.5"),
        ({"recluster_every": "often"}, "must be 'plateau', None .* but got 'often'"),
        ({"model": {"n_times": 31}}, "at least 2 tokens, .* but got 1"),
    ],
)
def test_constructor_rejects(settings, message):
    with pytest.raises(ValueError, match=message):
        make_objective(**settings)


def test_rejects_another_model():
    encoder = SCMM(n_outputs=2, n_chans=3, n_times=5, input_domain="de")
    with pytest.raises(TypeError, match="must be a MaskedClusterTransformer"):
        MaskedClusterPretraining(encoder)


def test_pretrained_and_fine_tuned_it_beats_chance():
    """The class is in the power of one channel, at all times of a window."""
    X, y = make_windows(160).numpy(), np.arange(160) % 2
    X[:, 0] *= np.where(y, 4.0, 0.25)[:, None]
    classifier = SSLClassifier(
        "MaskedClusterTransformer",
        sfreq=128,
        **{f"model__{name}": value for name, value in SMALL.items()},
        objective__n_clusters=(4, 8),
        objective__code_dim=16,
        objective__recluster_every=4,
        pretrain_steps=20,
        finetune_steps=40,
        batch_size=32,
        pretrain_lr=2e-3,
        finetune_lr=1e-3,
        random_state=0,
    ).fit(X[:120], y[:120])
    assert len(classifier.pretrainer_.module_.reports) == 2
    assert classifier.score(X[120:], y[120:]) > 0.8


@pytest.mark.gpu
def test_training_on_a_gpu():
    X = make_windows(32)
    pretrainer = SSLPretrainer(
        make_objective(recluster_every=1),
        max_epochs=2,
        batch_size=16,
        device="cuda",
        random_state=0,
    ).fit(X)
    objective = pretrainer.module_
    assert objective.compute_targets(X).is_cuda
    assert objective.sample_mask(4, torch.Generator().manual_seed(0)).is_cuda
    expected = objective.compute_targets(X).cpu()
    found = objective.cpu().compute_targets(X)
    assert (found == expected).float().mean() > 0.99
