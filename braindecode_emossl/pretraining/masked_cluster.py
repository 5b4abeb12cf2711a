"""Pre-training of MaskedClusterTransformer: predict the clusters of masked tokens."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from torch import nn

from braindecode_emossl.augmentation.span_masking import sample_span_mask
from braindecode_emossl.checks import check_choice, check_counts, is_count
from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.differential_entropy import entropy_of_tokens
from braindecode_emossl.losses.gathering import gather
from braindecode_emossl.losses.masked_prediction_loss import MaskedPredictionLoss
from braindecode_emossl.models.masked_cluster_transformer import (
    MaskedClusterTransformer,
)
from braindecode_emossl.pretraining.clustering import ClusterReport, TokenClusters
from braindecode_emossl.pretraining.objective import (
    PretrainingObjective,
    PretrainingOutput,
)
from braindecode_emossl.pretraining.recording_scaler import spread_recordings
from braindecode_emossl.pretraining.windows import number_recordings

__all__ = ["MaskedClusterPretraining"]

# Windows whose features are computed at once when clusters are fitted.
_CHUNK_SIZE = 256
# Windows of each recording that its features are standardised by, at most.
_WINDOWS_OF_RECORDING = 32
# A plateau: number of epochs within which the loss must fall by this share; and the
# share by which it must be below that of guessing for the layer to be worth clustering.
_PATIENCE, _LEAST_GAIN, _GAIN_OVER_GUESSING = 10, 0.01, 0.1


class MaskedClusterPretraining(PretrainingObjective):
    r"""Masked prediction of clusters in the style of Hu et al. (2024) [1]_.

    ``x (batch, n_chans, n_times)`` → ``encoder.extract_features``,
    ``encoder.projection`` → tokens ``(batch, n_tokens, emb_dim)`` → spans of them
    replaced by ``mask_token`` → ``encoder.encode`` → one linear map per codebook →
    ``(batch, n_tokens, code_dim)`` →
    :class:`~braindecode_emossl.losses.MaskedPredictionLoss` against the cluster of
    every masked token, summed over the codebooks.

    The clusters come from the training windows alone (:meth:`fit_clusters`), by
    mini-batch k-means, once for each codebook. The first clusters are those of the log
    power of every channel in five bands, token by token. With ``recluster_every``, they
    are replaced by clusters of a layer of the encoder during training. Features are
    standardised within each recording, so that clusters do not identify subjects. A
    copy of the encoder up to that layer computes the targets until the next clustering,
    so that they do not change while the encoder is trained.

    Parameters
    ----------
    encoder : MaskedClusterTransformer
        The model to pre-train. Its ``norm`` and ``final_layer`` get no gradient. It
        must know its ``sfreq``.
    preset : {"default"}, default="default"
        Only one preset, as there is no official code.
    n_clusters : tuple of int, default=(50, 100, 200)
        Number of clusters of each codebook. [inferred]
    mask_prob : float, default=0.8
        Fraction of tokens that would be masked if spans did not overlap. [inferred]
        As in HuBERT.
    mask_length : int, default=4
        Number of tokens of a span, half a second. [inferred]
    temperature : float, default=0.1
        Temperature of the cosine logits. [inferred] As in HuBERT.
    masked_weight : float, default=1.0
        Weight of the masked tokens in the loss, from 0 to 1; that of the visible tokens
        is the remainder. [inferred] As in HuBERT.
    intermediate_weight : float, default=0.0
        Weight of the same loss at ``cluster_layer``, with its own head; 0 omits it.
        [inferred] The abstract mentions enhanced features in intermediate layers, which
        may refer to this loss or to the clustering of such a layer.
    feature_penalty : float, default=0.0
        Weight of the mean square of the tokeniser's output. [inferred] HuBERT has 10.
    code_dim : int, default=128
        Size of the predictions and of the embeddings of clusters. [inferred] HuBERT has
        256.
    cluster_layer : int, optional
        Layer that is clustered (``recluster_every``) or has a loss of its own
        (``intermediate_weight``), from 1; by default the middle one. [inferred]
    recluster_every : "plateau", int or None, default=None
        When the layer is clustered. None: never. "plateau": when the loss has not
        fallen by 1 % within ten epochs, but not while it is within 10 % of that of
        guessing, see Notes. A number: every so many epochs. [inferred] HuBERT clusters
        a layer, and the abstract mentions intermediate layers.
    adaptive_n_clusters : bool, default=False
        Whether each codebook takes the best of a quarter, half and all of its
        ``n_clusters``, by the silhouette on held-out training windows. [inferred] The
        abstract calls the clustering adaptive, which may refer to this or to
        ``recluster_every``.
    max_fit_tokens : int, default=100_000
        Largest number of tokens to fit clusters on; if there are more, windows are
        drawn at random. [inferred]
    random_state : int, RandomState or None, default=None
        Seed of the clustering. None draws from torch's global generator, which
        :class:`~braindecode_emossl.pretraining.SSLPretrainer` seeds.

    Attributes
    ----------
    encoder : MaskedClusterTransformer
        The model being pre-trained.
    reports : list of ClusterReport
        One for each clustering by this very object, in order: those before a training
        was resumed or loaded are not kept.
    guessing_loss : float
        Loss of a model that knows only how frequent each cluster is; 0 before the first
        clustering.

    Raises
    ------
    TypeError
        If ``encoder`` is not a
        :class:`~braindecode_emossl.models.MaskedClusterTransformer`.
    ValueError
        If a setting is outside its range.

    Notes
    -----
    Only the abstract of the paper was available, and no code; choices tagged [inferred]
    follow HuBERT [2]_. This is not a reproduction of the paper's results.

    Predicting clusters is useful under two conditions:

    * Clusters must not identify subjects. Spectra differ more between subjects than
      between emotions. Features are therefore standardised within each recording, the
      windows of one corpus, subject and session in the metadata. Recordings that
      :meth:`prepare` has not seen, such as those of a validation set, and windows
      without metadata, are standardised over all training windows.
    * A layer must not be clustered before it is trained. Until then its features
      reflect the waveform and the position of a token in its window, and training on
      clusters of these destroys earlier progress. The term "prediction" should be well
      below ``objective.guessing_loss``.

    Deviations from HuBERT:

    * A layer is clustered only if it is asked for, see ``recluster_every``.
    * After a new clustering, training continues with new cluster embeddings; all
      clusterings have the same number of codebooks.
    * Clusters without a token are moved to the tokens that are farthest from theirs.

    References
    ----------
    .. [1] Hu, X., Chen, Y., Yan, J., Wu, Y., Ding, L., Xu, J., & Cheng, J. (2024).
       Masked self-supervised pre-training model for EEG-based emotion recognition.
       Computational Intelligence, 40(3). https://doi.org/10.1111/coin.12659
    .. [2] Hsu, W.-N., Bolte, B., Tsai, Y.-H. H., Lakhotia, K., Salakhutdinov, R., &
       Mohamed, A. (2021). HuBERT: Self-supervised speech representation learning by
       masked prediction of hidden units. IEEE/ACM Transactions on Audio, Speech, and
       Language Processing, 29, 3451-3460. https://doi.org/10.1109/TASLP.2021.3122291
    """

    model_class = MaskedClusterTransformer

    def __init__(
        self,
        encoder: MaskedClusterTransformer,
        *,
        preset: str = "default",
        n_clusters: tuple[int, ...] = (50, 100, 200),
        mask_prob: float = 0.8,
        mask_length: int = 4,
        temperature: float = 0.1,
        masked_weight: float = 1.0,
        intermediate_weight: float = 0.0,
        feature_penalty: float = 0.0,
        code_dim: int = 128,
        cluster_layer: int | None = None,
        recluster_every: int | Literal["plateau"] | None = None,
        adaptive_n_clusters: bool = False,
        max_fit_tokens: int = 100_000,
        random_state=None,
    ):
        if not isinstance(encoder, MaskedClusterTransformer):
            raise TypeError(
                "encoder must be a MaskedClusterTransformer, already built, but got "
                f"{encoder!r:.80}."
            )
        super().__init__(encoder)
        if preset != "default":
            raise ValueError(f"preset must be 'default', but got {preset!r}.")
        if cluster_layer is None:
            cluster_layer = (encoder.n_layers + 1) // 2
        _check_encoder(encoder, cluster_layer)
        check_counts("n_clusters", n_clusters, least=2)
        if not 0 < mask_prob <= 1:
            raise ValueError(f"mask_prob must be in (0, 1], but got {mask_prob}.")
        _check_not_negative(
            intermediate_weight=intermediate_weight, feature_penalty=feature_penalty
        )
        _check_positive(
            mask_length=mask_length, code_dim=code_dim, max_fit_tokens=max_fit_tokens
        )
        if recluster_every not in (None, "plateau") and not is_count(recluster_every):
            raise ValueError(
                "recluster_every must be 'plateau', None or a number of epochs, at "
                f"least 1, but got {recluster_every!r}."
            )

        self.n_clusters = tuple(n_clusters)
        self.mask_prob = mask_prob
        self.mask_length = mask_length
        self.intermediate_weight = intermediate_weight
        self.feature_penalty = feature_penalty
        self.cluster_layer = cluster_layer
        self.recluster_every = recluster_every
        self.adaptive_n_clusters = adaptive_n_clusters
        self.max_fit_tokens = max_fit_tokens
        self.random_state = random_state
        self.reports: list[ClusterReport] = []

        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.emb_dim))
        self.loss = MaskedPredictionLoss(temperature, masked_weight)
        self.head = _ClusterHead(encoder.emb_dim, code_dim, self.n_clusters)
        self.intermediate_head = (
            _ClusterHead(encoder.emb_dim, code_dim, self.n_clusters)
            if intermediate_weight
            else None
        )
        self.clusters = nn.ModuleDict(
            {
                "band_power": TokenClusters(
                    self.n_clusters, encoder.n_chans * len(BANDS)
                ),
                "layer": TokenClusters(self.n_clusters, encoder.emb_dim),
            }
        )
        self.target_encoder = _make_target_encoder(encoder, cluster_layer)
        # Which of these gives the targets, from 1; 0 before the first clustering.
        self.register_buffer("clustered", torch.tensor(0))
        # As a number of Python, which need not be read from a GPU for each batch.
        self.n_clustered = 0
        self.register_load_state_dict_post_hook(_read_clustered)
        # Of the epoch: the sum and number of the losses. Since the last clustering: the
        # loss to improve on, the number of epochs that have not improved on it, and the
        # loss of guessing.
        self.register_buffer("progress", torch.zeros(5))
        self._forget_targets(0)

    def prepare(self, X, metadata=None) -> None:
        """Find the first clusters, those of band power.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        metadata : DataFrame, n_windows rows, or None
            Rows with ``corpus``, ``subject`` and ``session``, where known.
        """
        self.fit_clusters(X, metadata=metadata)

    def on_epoch_begin(self, epoch: int, X, metadata=None) -> None:
        """Cluster the encoder's layer again if it is time.

        Parameters
        ----------
        epoch : int
            Number of epochs done.
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        metadata : DataFrame, n_windows rows, or None
            As in :meth:`prepare`.
        """
        every = self.recluster_every
        if every == "plateau":
            is_due = self._has_plateau()
        else:
            is_due = bool(every and epoch and epoch % every == 0)
        if is_due:
            self.fit_clusters(X, features="layer", metadata=metadata)

    @property
    def guessing_loss(self) -> float:
        """Loss of a model that knows only how frequent each cluster is."""
        return float(self.progress[4])

    def _has_plateau(self) -> bool:
        """Return whether the losses of the last epochs have stopped falling."""
        total, n_batches, best, n_stale, guessing = self.progress.tolist()
        if not n_batches:
            return False
        loss = total / n_batches
        if loss < (1 - _LEAST_GAIN) * best:
            best, n_stale = loss, 0
        else:  # best stays, so that slow progress adds up
            n_stale += 1
        self._set_progress(best, n_stale, guessing)
        return n_stale >= _PATIENCE and loss < (1 - _GAIN_OVER_GUESSING) * guessing

    def _set_progress(self, best: float, n_stale: float, guessing: float) -> None:
        """Begin an epoch."""
        progress = torch.tensor([0.0, 0.0, best, n_stale, guessing])
        self.progress.copy_(progress)

    @torch.no_grad()
    def fit_clusters(
        self, X, features: str = "band_power", metadata=None
    ) -> ClusterReport:
        """Find clusters, and use them as targets from now on.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            Training windows, on any device.
        features : {"band_power", "layer"}, default="band_power"
            Features to cluster: the log power of the signal, or the present output of
            ``cluster_layer``.
        metadata : DataFrame, n_windows rows, or None
            As in :meth:`prepare`.

        Returns
        -------
        ClusterReport
            Sizes and use of the clusters; also the last one of ``reports``.

        Raises
        ------
        ValueError
            If ``features`` is unknown, there are no windows or fewer tokens than
            clusters, or a window is not finite.
        """
        check_choice("features", features, self.clusters)
        if len(X) == 0:
            raise ValueError("fit_clusters needs at least one window, but got none.")
        if features == "layer":
            state = self.encoder.state_dict()
            self.target_encoder.load_state_dict(
                {name: state[name] for name in self.target_encoder.state_dict()}
            )
        rng = self._random_state()
        recordings = self._scale_recordings(X, features, metadata)
        n_windows = max(1, self.max_fit_tokens // self.encoder.n_tokens)
        chosen = np.sort(rng.permutation(len(X))[:n_windows])
        tokens = self._read_features(X, chosen, features)
        name = f"layer {self.cluster_layer}" if features == "layer" else features
        report = self.clusters[features].fit(
            tokens,
            name=name,
            recordings=None
            if recordings is None
            else torch.from_numpy(recordings[chosen]).to(tokens.device),
            choose_n_clusters=self.adaptive_n_clusters,
            random_state=rng,
        )
        self.n_clustered = 1 + list(self.clusters).index(features)
        self.clustered.fill_(self.n_clustered)
        for head in self._heads():
            # The embeddings of the previous clusters are meaningless for the new ones.
            head.reset_codes()
        self.reports.append(report)
        self._set_progress(np.inf, 0, np.log(report.perplexity).sum())
        self._forget_targets(len(X))
        return report

    @torch.no_grad()
    def on_resume(self, X, metadata=None) -> None:
        """Compute the mean and scale of each recording, and forget the targets.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            All training windows.
        metadata : DataFrame, n_windows rows, or None
            As in :meth:`prepare`.
        """
        self._scale_recordings(X, self._current(), metadata)
        self._forget_targets(len(X))

    def _scale_recordings(self, X, features: str, metadata) -> np.ndarray | None:
        """Fit the scaling of each recording, and return the windows' recordings."""
        recordings = number_recordings(metadata)
        if recordings is not None:
            scaler = self.clusters[features].scaler
            scaler.fit_recordings(
                scaler.measure(self._read_features(X, rows, features))
                for rows in spread_recordings(recordings, _WINDOWS_OF_RECORDING)
            )
        return recordings

    def _read_features(self, X, rows: np.ndarray, features: str) -> torch.Tensor:
        """Return the features (n_windows, n_tokens, n_features) of some windows."""
        return torch.cat(
            [
                self._token_features(X[rows[start : start + _CHUNK_SIZE]], features)
                for start in range(0, len(rows), _CHUNK_SIZE)
            ]
        )

    @torch.no_grad()
    def compute_targets(self, X, recordings=None) -> torch.Tensor:
        """Return the cluster of every token.

        Parameters
        ----------
        X : torch.Tensor or numpy.ndarray, shape (batch, n_chans, n_times)
            Windows.
        recordings : torch.Tensor of int, shape (batch,), or None
            Number of the recording of each window, see :meth:`forward`.

        Returns
        -------
        torch.Tensor of int64, shape (batch, n_tokens, n_codebooks)
            Clusters, counted from 0, on the device of the model.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If there are no clusters yet.
        """
        if not self.n_clustered:
            raise NotFittedError(
                "MaskedClusterPretraining has no clusters to predict yet. Call "
                "fit_clusters with the training windows; SSLPretrainer does it in fit."
            )
        current = self._current()
        features = self._token_features(X, current)
        return self.clusters[current](features, recordings)

    def sample_mask(
        self, batch_size: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Draw which tokens are masked.

        Parameters
        ----------
        batch_size : int
            Number of windows.
        generator : torch.Generator, optional
            Source of the random numbers; torch's global generator by default.

        Returns
        -------
        torch.Tensor of bool, shape (batch_size, n_tokens)
            True where a token is masked, on the device of the model.
        """
        return sample_span_mask(
            batch_size,
            self.encoder.n_tokens,
            mask_prob=self.mask_prob,
            mask_length=self.mask_length,
            generator=generator,
            device=self.mask_token.device,
        )

    def forward(
        self,
        x: torch.Tensor,
        generator: torch.Generator | None = None,
        recordings: torch.Tensor | None = None,
        windows: torch.Tensor | None = None,
    ) -> PretrainingOutput:
        """Find the targets of a batch, mask it and compute the loss.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            Windows.
        generator : torch.Generator, optional
            Source of the masks; torch's global generator by default.
        recordings : torch.Tensor of int, shape (batch,), or None
            Number of the recording of each window, by its first appearance in the
            metadata of :meth:`prepare`; -1 for any other. None: they are not known.
        windows : torch.Tensor of int on the CPU, shape (batch,), or None
            Index of each window in the ``X`` of :meth:`prepare`. With it, the targets
            of a window are computed once for each clustering, and not in each epoch.

        Returns
        -------
        PretrainingOutput
            As :meth:`compute_loss` returns it.
        """
        targets = self._recall_targets(x, recordings, windows)
        output = self.compute_loss(x, targets, self.sample_mask(len(x), generator))
        if self.training:
            self.progress[0] += output.terms["prediction"]
            self.progress[1] += 1
        return output

    def _recall_targets(self, x, recordings, windows) -> torch.Tensor:
        """Return the targets of a batch, computed unless they are known."""
        if windows is None or not len(self._has_targets):
            return self.compute_targets(x, recordings)
        new = (~self._has_targets[windows]).nonzero()[:, 0]
        if len(new):
            rows = new.to(x.device, non_blocking=True)
            of_rows = None if recordings is None else recordings[rows]
            found = self.compute_targets(x[rows], of_rows).to(self._targets.dtype)
            self._targets[windows[new].to(x.device, non_blocking=True)] = found
            self._has_targets[windows[new]] = True
        return self._targets[windows.to(x.device, non_blocking=True)].long()

    def _forget_targets(self, n_windows: int) -> None:
        """Make room for the targets of the training windows, none of which is known."""
        # No buffers: processes that train together know the targets of other windows.
        self._targets = torch.zeros(
            (n_windows, self.encoder.n_tokens, len(self.n_clusters)),
            dtype=torch.int32,
            device=self.mask_token.device,
        )
        # On the CPU, which asks for it before each batch.
        self._has_targets = torch.zeros(n_windows, dtype=torch.bool)

    def compute_loss(
        self, X: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor
    ) -> PretrainingOutput:
        """Compute the loss for given targets and masks.

        Parameters
        ----------
        X : torch.Tensor, shape (batch, n_chans, n_times)
            Windows.
        targets : torch.Tensor of int64, shape (batch, n_tokens, n_codebooks)
            Cluster of every token.
        mask : torch.Tensor of bool, shape (batch, n_tokens)
            True where a token is masked.

        Returns
        -------
        PretrainingOutput
            The loss, and the terms "prediction" and, where their weights are not 0,
            "intermediate" and "feature_penalty".

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        shape = (len(X), self.encoder.n_tokens, len(self.n_clusters))
        if targets.shape != shape or mask.shape != shape[:2]:
            raise ValueError(
                "targets must be of shape (batch, n_tokens, n_codebooks) = "
                f"{shape} and mask of (batch, n_tokens) = {shape[:2]}, but got "
                f"{tuple(targets.shape)} and {tuple(mask.shape)}."
            )
        features = self.encoder.extract_features(X)  # (batch, n_tokens, n_filters)
        tokens = self.encoder.projection(features)  # (batch, n_tokens, emb_dim)
        mask_token = self.mask_token.to(tokens.dtype)
        tokens = torch.where(mask[..., None], mask_token, tokens)
        hidden = self.encoder.encode(tokens)  # of (batch, n_tokens, emb_dim)

        loss = self._predict(self.head, hidden[-1], targets, mask)
        terms = {"prediction": loss.detach()}
        if self.intermediate_weight:
            layer = hidden[self.cluster_layer - 1]
            term = self._predict(self.intermediate_head, layer, targets, mask)
            loss = loss + self.intermediate_weight * term
            terms["intermediate"] = term.detach()
        if self.feature_penalty:
            # The squares can leave the range of half precision.
            precision = torch.promote_types(features.dtype, torch.float32)
            term = gather(features.to(precision).square().mean()[None]).mean()
            loss = loss + self.feature_penalty * term
            terms["feature_penalty"] = term.detach()
        return PretrainingOutput(loss, terms)

    def train(self, mode: bool = True) -> MaskedClusterPretraining:
        """Set the training mode of all parts except the target encoder.

        Parameters
        ----------
        mode : bool, default=True
            Whether to train.

        Returns
        -------
        MaskedClusterPretraining
            The objective itself.
        """
        super().train(mode)
        self.target_encoder.eval()
        return self

    def _predict(self, head, hidden, targets, mask) -> torch.Tensor:
        """Return the loss of a head, summed over the codebooks."""
        sizes = self.clusters[self._current()].sizes
        return sum(
            self.loss(projection(hidden), codes[:size], targets[..., i], mask)
            for i, (projection, codes, size) in enumerate(
                zip(head.projections, head.codes, sizes, strict=True)
            )
        )

    def _token_features(self, X, features: str) -> torch.Tensor:
        """Return the features to cluster, (n_windows, n_tokens, n_features)."""
        x = torch.as_tensor(X).to(self.mask_token)  # (n_windows, n_chans, n_times)
        # Targets must not depend on the precision that training runs in.
        with torch.autocast(x.device.type, enabled=False):
            if features == "band_power":
                window = self.encoder.token_stride / self.encoder.sfreq
                entropy = entropy_of_tokens(x, self.encoder.sfreq, window)
                return entropy.flatten(2)  # (n_windows, n_tokens, n_chans * n_bands)
            tokens = self.target_encoder.projection(
                self.target_encoder.extract_features(x)
            )  # (n_windows, n_tokens, emb_dim)
            return self.target_encoder.encode(tokens)[-1]

    def _current(self) -> str:
        """Return the name of the clusters that give the targets."""
        return list(self.clusters)[max(self.n_clustered - 1, 0)]

    def _heads(self) -> list[_ClusterHead]:
        return [head for head in (self.head, self.intermediate_head) if head]

    def _random_state(self) -> np.random.RandomState:
        if self.random_state is None:
            return check_random_state(int(torch.randint(2**31, ())))
        return check_random_state(self.random_state)


def _read_clustered(objective: MaskedClusterPretraining, incompatible_keys) -> None:
    """Read which clusters give the targets of an objective that was loaded."""
    objective.n_clustered = int(objective.clustered)
    objective._forget_targets(0)


class _ClusterHead(nn.Module):
    """Predictions for each codebook, and cluster embeddings to compare them with."""

    def __init__(self, emb_dim: int, code_dim: int, n_clusters: tuple[int, ...]):
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Linear(emb_dim, code_dim) for _ in n_clusters
        )
        self.codes = nn.ParameterList(
            torch.empty(size, code_dim) for size in n_clusters
        )
        self.reset_codes()

    def reset_codes(self) -> None:
        """Draw new embeddings of the clusters."""
        for codes in self.codes:
            nn.init.normal_(codes)


def _make_target_encoder(
    encoder: MaskedClusterTransformer, n_layers: int
) -> MaskedClusterTransformer:
    """Return a frozen copy of an encoder that ends with one of its layers."""
    encoder = copy.deepcopy(encoder)
    encoder.layers = encoder.layers[:n_layers]
    encoder.norm = nn.Identity()
    encoder.final_layer = nn.Identity()
    return encoder.requires_grad_(False).eval()


def _check_encoder(encoder: MaskedClusterTransformer, cluster_layer: int) -> None:
    if encoder.n_tokens < 2:
        raise ValueError(
            "encoder must take windows of at least 2 tokens, one to mask and one to "
            f"see, but got {encoder.n_tokens}. Use longer windows."
        )
    if not 1 <= cluster_layer <= encoder.n_layers:
        raise ValueError(
            "cluster_layer must be a layer of the encoder, from 1 to "
            f"{encoder.n_layers}, but got {cluster_layer}."
        )


def _check_not_negative(**weights: float) -> None:
    for name, value in weights.items():
        if value < 0:
            raise ValueError(f"{name} must not be negative, but got {value}.")


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but got {value}.")
