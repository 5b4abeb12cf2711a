"""MoodReader: patches of raw EEG, attention over its DE, and eye features."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence

import mne
import torch
import torch.nn.functional as F
from braindecode.models.base import EEGModuleMixin
from torch import nn

from braindecode_emossl.features.bands import BANDS
from braindecode_emossl.features.layers import DifferentialEntropyLayer
from braindecode_emossl.losses.precision import at_least_single_precision
from braindecode_emossl.models.head import ReplaceableHead
from braindecode_emossl.models.modalities import find_modalities

__all__ = ["MoodReader"]

# Types of MNE that are eye features, and names such as those of SEED-IV and SEED-V.
_EYE_TYPES = ("misc", "eyegaze", "pupil")
_EYE_NAMES = re.compile(
    "(eye|pupil|gaze|fixation|saccade|blink|disp|fix|sacc|ev)(_|$)", re.IGNORECASE
)
# Of the type misc in FACED, whose EEG is that of the other electrodes.
_EAR_NAMES = re.compile("[AM][12]$", re.IGNORECASE)
# Amplitudes 60 dB below the largest are residues of filtering and resampling. Near the
# Nyquist frequency they depend on the length of the recording.
_RESIDUE = 1e-3


class MoodReader(ReplaceableHead, EEGModuleMixin, nn.Module):
    r"""MoodReader, in the style of Dong et al. (2024) [moodreader]_.

    :bdg-info:`Attention/Transformer`

    A transformer over patches of EEG, attention over electrodes and time on the
    differential entropy (DE), and a branch for eye features where there are any, fused
    to one representation. All of it is pre-trained without labels by
    :class:`~braindecode_emossl.pretraining.MoodReaderPretraining`. The attention shows
    which electrodes count: see :meth:`attention_weights`.

    The forward path is, end to end:

    ``(batch, n_chans, n_times)`` → EEG and eye channels apart, then

    * EEG → spectra of patches ``(batch, n_patches, patch_dim)`` → transformer → mean
      of the tokens ``(batch, embed_dim)``;
    * EEG → DE of every step ``(batch, n_steps, n_eeg_chans, n_bands)`` → interlinked
      attention → one vector a layer ``(batch, n_feature_layers, feature_dim)``;
    * eye → mean of every step ``(batch, n_steps, n_eye_chans)`` → tokens
      ``(batch, n_steps, feature_dim)``;

    → multi-level fusion → ``(batch, n_features)`` → ``final_layer`` →
    ``(batch, n_outputs)``.

    With the defaults ``n_features`` is 96.

    Eye features are the channels whose type in ``chs_info`` is ``misc``, ``eyegaze`` or
    ``pupil``, and those of type EEG or no type whose name begins with ``eye_``,
    ``pupil_``, ``gaze_``, ``fix_``, ``sacc_``, ``blink_``, ``disp_`` or ``ev_``, as in
    the corpora of this package. Without ``chs_info`` all channels are EEG unless
    ``eye_channels`` lists their positions. Channels of other types are left out, and so
    are electrodes at the ears (A1, A2, M1, M2) of type ``misc``.

    .. rubric:: Step 1 -- Scaling (``signal_scaler`` and the like)

    The amplitudes of each EEG channel and frequency (or its samples), the DE of each
    channel and band, and each eye feature are brought to mean 0 and variance 1 over the
    training windows by :meth:`fit_normalization`. Until it is called, they pass
    unchanged. Frequencies that a filter has removed are not scaled up: they are divided
    by the largest amplitude of their channel, of which they are less than 0.1 % (the
    first two frequencies, offsets and drifts, do not count). What filtering and
    resampling leave in them depends on the length of the recording, which may reveal
    the label.

    .. rubric:: Step 2 -- Signal Branch (``signal_encoder``)

    A patch is ``patch_size`` samples of all EEG channels; zeros fill up the last one.
    It is represented by its amplitude spectrum or, with ``patch_domain="signal"``, its
    samples. Each patch is projected to ``embed_dim``, gets a fixed sine-cosine
    position, and goes through a transformer, over whose tokens the mean is taken. In
    pre-training only the visible patches enter, see :meth:`encode_patches`.

    .. rubric:: Step 3 -- Feature Branch (``feature_encoder``)

    The window is cut into steps of about ``step_seconds``, of equal length, and the DE
    of each step and channel is computed in the five bands of SEED by
    :class:`~braindecode_emossl.features.layers.DifferentialEntropyLayer`. Each layer
    attends over the channels of a step and over the steps of a channel; then each of
    the two results attends to the other one. The mean over steps, summed over the
    channels with a learned weight for each channel and feature, is one vector a layer.

    .. rubric:: Step 4 -- Eye Branch (``eye_fusion``)

    The mean of each eye feature over each step, through a small network. It exists only
    if there are eye features. NaN is a missing value: the mean is that of the other
    samples of the step. A feature with no sample in a step is replaced by its mean over
    the training windows, and an indicator of the missing features enters the network,
    whose weights for it begin at zero. Pre-training masks eye features in this way.

    .. rubric:: Step 5 -- Multi-level Fusion (``merge``, ``eye_fusion``)

    First the mean token and the last feature vector are merged; then a gate weighs the
    result against the pooled eye tokens, and its attention to these is added; last, the
    vectors of all feature layers, shallow and deep, are concatenated.

    .. rubric:: Step 6 -- Classification Head (``final_layer``)

    Linear, ``activation``, dropout, linear. It returns logits.

    .. warning::
       Call :meth:`fit_normalization` (pre-training does), as eye features and voltages
       differ in size by many orders.

    Parameters
    ----------
    eye_channels : list of str or list of int, optional
        The eye features: names in ``chs_info``, or positions; none if it is empty. By
        default they are found by type and name. [inferred]
    patch_domain : {"spectrum", "signal"}, default="spectrum"
        Representation of a patch, in the encoder and as the target of pre-training: the
        amplitudes of its frequencies, or its samples. [inferred] MinD-Vis and
        DreamDiffusion take samples; see Notes.
    patch_size : int, default=50
        Length of a patch in samples. [inferred] A quarter of a second at 200 Hz, whose
        frequencies lie 4 Hz apart; the samples of DreamDiffusion come in patches of 4.
    embed_dim : int, default=128
        Width of the signal encoder, even and a multiple of ``n_heads``. [inferred] The
        sizes are for a computer without a GPU; DreamDiffusion and MinD-Vis use 1024.
    n_layers : int, default=4
        Number of layers of the signal encoder. [inferred] Both use 24.
    n_heads : int, default=4
        Number of attention heads of the signal encoder. [inferred] Both use 16.
    mlp_ratio : float, default=2.0
        Width of the hidden layers of all transformer layers, over that of the layer
        itself. [inferred] Both use 1.
    step_seconds : float, default=1.0
        Length of a step in seconds, up to rounding so that a window holds a whole
        number of equal steps, at least one. Fewer samples than steps may be left out at
        the end. [inferred] DE is computed for each second of SEED-V.
    feature_dim : int, default=32
        Width of the feature branch, the eye branch and the fusion. [inferred]
    n_feature_layers : int, default=2
        Number of layers of the feature branch. [inferred]
    n_feature_heads : int, default=2
        Number of attention heads of the feature and eye branches. [inferred]
    n_hidden : int, default=128
        Width of the hidden layer of ``final_layer``. [inferred]
    drop_prob : float, default=0.1
        Dropout in all layers but ``final_layer``. It is not applied to attention
        weights, where it is slow on a CPU. [inferred]
    head_drop_prob : float, default=0.3
        Dropout after the hidden layer of ``final_layer``. [inferred]
    activation : type[nn.Module], default=nn.GELU
        Activation of all layers. [inferred]

    Attributes
    ----------
    n_eeg_chans, n_eye_chans : int
        Number of channels of either kind.
    n_patches : int
        Number of patches of a window.
    patch_dim : int
        Number of values that represent a patch.
    n_steps : int
        Number of steps of a window.
    n_features : int
        Size of the representation, ``(n_feature_layers + 1) * feature_dim``.

    Raises
    ------
    ValueError
        If no channel is EEG, an eye channel is not found, a channel is of a type that
        is not a signal of the body, a setting is outside its range, or the steps are
        too short or ``sfreq`` is too low for the bands.

    Warns
    -----
    UserWarning
        If channels are left out because they are neither EEG nor eye features.

    Notes
    -----
    Neither the full text of the paper nor any code of its authors was available, so
    this is not a reproduction. [paper], from the abstract: masked brain-signal
    modelling before training, interlinked spatial-temporal attention on DE features,
    and a multi-level fusion of dimensions and modalities. Everything else is
    [inferred]: the signal branch from MinD-Vis [mindvis]_ and DreamDiffusion
    [dreamdiffusion]_, the equations of the attention and the fusion by us.

    Whether the paper masks raw EEG or features is not known. In background EEG the
    samples of a gap hardly follow from those around it, but its power does, and power
    is what emotions are read from. BrainBERT masks spectrograms [brainbert]_, and
    LaBraM predicts codes of spectra [labram]_; here it is amplitudes, after a Hann
    window. The model has no class token: the pre-training loss acts on the tokens of
    the patches and would train a class token only indirectly.

    DreamDiffusion tiles or cuts the channels to 128 and the window to 512 samples; here
    the montage and the window are taken as they are. A scaling by the window's own
    samples, which would need no fit, would leak the masked patches into the visible
    ones.

    References
    ----------
    .. [moodreader] Dong, Y., Chen, Y., Shen, Y., Ng, M. K., Qian, T., & Wang, S.
       (2024). Multi-modal Mood Reader: Pre-trained Model Empowers Cross-Subject Emotion
       Recognition. In Neural Computing for Advanced Applications (pp. 178-192).
       https://doi.org/10.1007/978-981-97-7007-6_13, https://arxiv.org/abs/2405.19373
    .. [mindvis] Chen, Z., Qing, J., Xiang, T., Yue, W. L., & Zhou, J. H. (2023). Seeing
       Beyond the Brain: Conditional Diffusion Model with Sparse Masked Modeling for
       Vision Decoding. In CVPR. https://doi.org/10.1109/CVPR52729.2023.02175
    .. [dreamdiffusion] Bai, Y., Wang, X., Cao, Y., Ge, Y., Yuan, C., & Shan, Y. (2023).
       DreamDiffusion: Generating High-Quality Images from Brain EEG Signals.
       https://arxiv.org/abs/2306.16934
    .. [brainbert] Wang, C., Subramaniam, V., Yaari, A. U., Kreiman, G., Katz, B.,
       Cases, I., & Barbu, A. (2023). BrainBERT: Self-supervised representation learning
       for intracranial recordings. In ICLR. https://arxiv.org/abs/2302.14367
    .. [labram] Jiang, W., Zhao, L., & Lu, B. (2024). Large Brain Model for Learning
       Generic Representations with Tremendous EEG Data in BCI. In ICLR.
       https://arxiv.org/abs/2405.18765
    """

    def __init__(
        self,
        n_outputs=None,
        n_chans=None,
        chs_info=None,
        n_times=None,
        input_window_seconds=None,
        sfreq=None,
        *,
        eye_channels: list[str] | list[int] | None = None,
        patch_domain: str = "spectrum",
        patch_size: int = 50,
        embed_dim: int = 128,
        n_layers: int = 4,
        n_heads: int = 4,
        mlp_ratio: float = 2.0,
        step_seconds: float = 1.0,
        feature_dim: int = 32,
        n_feature_layers: int = 2,
        n_feature_heads: int = 2,
        n_hidden: int = 128,
        drop_prob: float = 0.1,
        head_drop_prob: float = 0.3,
        activation: type[nn.Module] = nn.GELU,
    ):
        super().__init__(
            n_outputs=n_outputs,
            n_chans=n_chans,
            chs_info=chs_info,
            n_times=n_times,
            input_window_seconds=input_window_seconds,
            sfreq=sfreq,
        )
        known = None if chs_info is None else self.chs_info
        del n_outputs, n_chans, chs_info, n_times, input_window_seconds, sfreq

        if patch_domain not in ("spectrum", "signal"):
            raise ValueError(
                'patch_domain must be "spectrum" or "signal", but got '
                f"{patch_domain!r}."
            )
        for name, value in (
            ("patch_size", patch_size),
            ("n_layers", n_layers),
            ("n_feature_layers", n_feature_layers),
            ("step_seconds", step_seconds),
            ("mlp_ratio", mlp_ratio),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be greater than 0, but got {value}.")
        check_width("embed_dim", embed_dim, "n_heads", n_heads)
        check_width("feature_dim", feature_dim, "n_feature_heads", n_feature_heads)

        self.eye_channels = eye_channels
        self.patch_domain = patch_domain
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.n_layers = n_layers
        self.n_heads = n_heads
        self.mlp_ratio = mlp_ratio
        self.step_seconds = step_seconds
        self.feature_dim = feature_dim
        self.n_feature_layers = n_feature_layers
        self.n_feature_heads = n_feature_heads
        self.n_hidden = n_hidden
        self.drop_prob = drop_prob
        self.head_drop_prob = head_drop_prob
        self.activation = activation

        eeg, eye = _find_channels(known, self.n_chans, eye_channels)
        self.n_eeg_chans, self.n_eye_chans = len(eeg), len(eye)
        self.register_buffer("eeg_chans", torch.tensor(eeg), persistent=False)
        eye_chans = torch.tensor(eye, dtype=torch.long)
        self.register_buffer("eye_chans", eye_chans, persistent=False)
        self.n_patches = math.ceil(self.n_times / patch_size)
        self.n_steps = max(1, round(self.n_times / (self.sfreq * step_seconds)))
        self.n_features = (n_feature_layers + 1) * feature_dim

        self.differential_entropy = DifferentialEntropyLayer(
            self.n_times // self.n_steps, self.sfreq, bands=BANDS
        )
        n_values = patch_size
        if patch_domain == "spectrum":
            self.spectrum = _Spectrum(patch_size)
            n_values = self.spectrum.n_freqs
            self.signal_scaler = _Scaler(n_values, self.n_eeg_chans)
        else:
            self.signal_scaler = _Scaler(self.n_eeg_chans)
        self.patch_dim = n_values * self.n_eeg_chans
        self.entropy_scaler = _Scaler(self.n_eeg_chans, len(BANDS))
        self.signal_encoder = _SignalEncoder(
            self.n_patches,
            self.patch_dim,
            embed_dim,
            layers=make_transformer(
                embed_dim, n_layers, n_heads, mlp_ratio, drop_prob, activation
            ),
        )
        self.feature_encoder = _FeatureEncoder(
            (self.n_steps, self.n_eeg_chans, len(BANDS)),
            feature_dim,
            layers=[
                _InterlinkedLayer(
                    feature_dim, n_feature_heads, mlp_ratio, drop_prob, activation
                )
                for _ in range(n_feature_layers)
            ],
        )
        self.merge = nn.Linear(embed_dim + feature_dim, feature_dim)
        if eye:
            self.eye_scaler = _Scaler(self.n_eye_chans)
            self.eye_fusion = _EyeFusion(
                self.n_eye_chans, feature_dim, n_feature_heads, drop_prob, activation
            )
        self.final_layer = self._make_head()

    @property
    def missing_chans(self) -> list[int]:
        """The indices of the channels that may hold NaN, all but EEG."""
        return sorted(set(range(self.n_chans)) - set(self.eeg_chans.tolist()))

    def forward(self, x: torch.Tensor, return_features: bool = False):
        """Classify windows, or return their representation.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            EEG, and eye features if there are any. NaN in an eye feature is a missing
            value.
        return_features : bool, default=False
            Whether to return the representation instead of the logits.

        Returns
        -------
        torch.Tensor, shape (batch, n_outputs), or dict
            Logits; or, with ``return_features``, ``{"features": (batch, n_features),
            "cls_token": (batch, embed_dim)}``, the latter the mean token of the signal
            branch.
        """
        tokens = self.encode_patches(self.extract_patches(x))
        features = self.fuse(tokens, self.extract_entropy(x), self.extract_eye(x))
        if return_features:
            return {"features": features, "cls_token": tokens.mean(dim=1)}
        return self.final_layer(features)  # (batch, n_outputs)

    def extract_patches(self, x: torch.Tensor) -> torch.Tensor:
        """Cut the EEG into patches, scaled: what is masked and reconstructed.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            As in :meth:`forward`.

        Returns
        -------
        torch.Tensor, shape (batch, n_patches, patch_dim)
            Patches, all channels of a frequency or sample side by side.
        """
        values = self.signal_scaler(self._signal_values(x))
        if self.patch_domain == "signal":
            values = self._into_patches(values)
        return values.flatten(2)

    def encode_patches(
        self,
        patches: torch.Tensor,
        mask: torch.Tensor | None = None,
        n_visible: int | None = None,
    ) -> torch.Tensor:
        """Encode patches, without a trace of the masked ones.

        Parameters
        ----------
        patches : torch.Tensor, shape (batch, n_patches, patch_dim)
            As :meth:`extract_patches` returns them.
        mask : torch.Tensor of bool, shape (batch, n_patches), optional
            True where a patch is masked, at equally many places in each window; by
            default nowhere.
        n_visible : int, optional
            Number of patches of each window that the mask leaves visible. By default
            the mask is counted and checked, for which the processor waits for a GPU.

        Returns
        -------
        torch.Tensor, shape (batch, n_visible, embed_dim)
            Tokens of the visible patches, in their order.

        Raises
        ------
        ValueError
            If ``mask`` is of another type or shape, or the windows have not equally
            many visible patches, or none.
        """
        if mask is None:
            return self.signal_encoder(patches)
        if n_visible is None:
            n_visible = _count_visible(mask, patches.shape[:2])
        return self.signal_encoder(patches, find_visible(mask, n_visible))

    def extract_entropy(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the DE of each step and EEG channel, scaled.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            As in :meth:`forward`.

        Returns
        -------
        torch.Tensor, shape (batch, n_steps, n_eeg_chans, n_bands)
            The DE.
        """
        return self.entropy_scaler(self._entropy(x))

    def extract_eye(self, x: torch.Tensor) -> torch.Tensor:
        """Average the eye features over each step, scaled.

        Parameters
        ----------
        x : torch.Tensor, shape (batch, n_chans, n_times)
            As in :meth:`forward`.

        Returns
        -------
        torch.Tensor, shape (batch, n_steps, n_eye_chans)
            Means of the samples that are not NaN; NaN where a step has none.
        """
        eye = self._eye(x)
        return self.eye_scaler(eye) if self.n_eye_chans else eye

    def fuse(
        self,
        tokens: torch.Tensor,
        entropy: torch.Tensor,
        eye: torch.Tensor,
        mask: torch.Tensor | None = None,
        mask_token: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the representation from the inputs of the three branches.

        Parameters
        ----------
        tokens : torch.Tensor, shape (batch, n_visible, embed_dim)
            Tokens of patches, as :meth:`encode_patches` returns them.
        entropy : torch.Tensor, shape (batch, n_steps, n_eeg_chans, n_bands)
            DE, as :meth:`extract_entropy` returns it.
        eye : torch.Tensor, shape (batch, n_steps, n_eye_chans)
            Eye features, as :meth:`extract_eye` returns them. NaN is a masked value.
        mask : torch.Tensor of bool, shape (batch, n_steps, n_eeg_chans), optional
            True where the DE is masked; by default nowhere.
        mask_token : torch.Tensor, shape (feature_dim,), optional
            Token of masked DE. Required with ``mask``.

        Returns
        -------
        torch.Tensor, shape (batch, n_features)
            The representation.
        """
        # (batch, n_feature_layers, feature_dim)
        levels = self.feature_encoder(entropy, mask, mask_token)
        # (batch, feature_dim)
        fused = self.merge(torch.cat([tokens.mean(dim=1), levels[:, -1]], dim=1))
        if self.n_eye_chans:
            fused = self.eye_fusion(fused, eye)
        return torch.cat([levels.flatten(1), fused], dim=1)

    @torch.no_grad()
    def attention_weights(self, x: torch.Tensor) -> torch.Tensor:
        """Return how much attention each electrode gets, as for a topographic map.

        It is the weight that the attention over channels gives to the electrode, mean
        over the feature layers and their two attentions of this kind, the heads, the
        steps, and the electrodes that attend.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, shape (batch, n_chans, n_times)
            As in :meth:`forward`.

        Returns
        -------
        torch.Tensor, shape (batch, n_eeg_chans)
            Weights of the EEG channels, in their order in ``chs_info``. Rows sum to
            one, so equal attention is ``1 / n_eeg_chans``.
        """
        x = torch.as_tensor(x).to(self.entropy_scaler.mean)
        was_training = self.training
        self.eval()  # dropout changes what later layers attend to
        weights = self.feature_encoder.attention_weights(self.extract_entropy(x))
        self.train(was_training)
        return weights

    @torch.no_grad()
    def fit_normalization(self, x: torch.Tensor, chunk_size: int = 256) -> MoodReader:
        """Set the scaling so that these windows have mean 0 and variance 1.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, shape (n_windows, n_chans, n_times)
            Training windows, as in :meth:`forward`. They may live on another device
            than the model. Missing eye data, NaN, do not count.
        chunk_size : int, default=256
            Number of windows that are measured at once.

        Returns
        -------
        MoodReader
            The model itself.

        Raises
        ------
        ValueError
            If X is empty, or holds an infinite value or, in EEG, NaN.
        """
        if len(x) == 0:
            raise ValueError(
                "fit_normalization needs at least one window, but got none."
            )
        parts = [
            (self.signal_scaler, self._signal_values),
            (self.entropy_scaler, self._entropy),
        ]
        moments: list[list] = [[] for _ in parts]
        eye, sizes = [], []
        for start in range(0, len(x), chunk_size):
            windows = torch.as_tensor(x[start : start + chunk_size])
            windows = windows.to(self.signal_scaler.mean)
            sizes.append(len(windows))
            eye.append(self._eye(windows).cpu().double())
            for found, (_, extract) in zip(moments, parts, strict=True):
                variance, mean = torch.var_mean(extract(windows), (0, 1), correction=0)
                found.append(torch.stack([mean, variance]).cpu().double())
        weights = torch.tensor(sizes).double() / len(x)  # (n_chunks,)
        pooled = {
            scaler: _pool(torch.stack(found), weights)
            for found, (scaler, _) in zip(moments, parts, strict=True)
        }
        if self.n_eye_chans:
            pooled[self.eye_scaler] = _measure_known(torch.cat(eye))
        if not all(torch.cat([m, v]).isfinite().all() for m, v in pooled.values()):
            raise ValueError(
                "fit_normalization needs finite windows, but got NaN in EEG channels "
                "or infinite values; drop or repair the windows that hold such samples."
            )
        for scaler, (mean, variance) in pooled.items():
            self._set_scaling(scaler, mean, variance)
        return self

    def _set_scaling(self, scaler: _Scaler, mean, variance) -> None:
        """Set a scaling; what is constant, or no signal, is not scaled up."""
        size, std = mean.abs(), variance.sqrt()
        is_spectrum = scaler is self.signal_scaler and self.patch_domain == "spectrum"
        if is_spectrum and len(mean) > 2:
            # Offsets and drifts, in the first two frequencies, may be of any size.
            largest = size[2:].amax(dim=0)  # (n_eeg_chans,)
            std = torch.where(size < _RESIDUE * largest, largest, std)
        if is_spectrum:
            size = size.amax(dim=0)  # by which the rounding of a spectrum goes
        # What varies by rounding alone counts as constant.
        is_constant = variance.sqrt() <= 1e-6 * size
        scaler.mean.copy_(mean)
        scaler.std.copy_(std.masked_fill(is_constant, 1.0))

    def _make_head(self) -> nn.Sequential:
        """Return a new classification head."""
        return nn.Sequential(
            nn.Linear(self.n_features, self.n_hidden),
            self.activation(),
            nn.Dropout(self.head_drop_prob),
            nn.Linear(self.n_hidden, self.n_outputs),
        )

    def _select(self, x: torch.Tensor, chans: torch.Tensor) -> torch.Tensor:
        """Return some channels (batch, n, n_times), after a check of the shape."""
        expected = (self.n_chans, self.n_times)
        if x.ndim != 3 or x.shape[1:] != expected:
            raise ValueError(
                "x must be of shape (batch, n_chans, n_times) = (batch, "
                f"{expected[0]}, {expected[1]}), but got {tuple(x.shape)}."
            )
        return x.index_select(1, chans)

    def _signal_values(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the signal branch reads, with the channels last, not yet scaled.

        Spectra (batch, n_patches, n_freqs, n_eeg_chans), or samples (batch, n_times,
        n_eeg_chans), to which zeros are added after the scaling.
        """
        signal = self._select(x, self.eeg_chans).mT  # (batch, n_times, n_eeg_chans)
        if self.patch_domain == "signal":
            return signal
        return self.spectrum(self._into_patches(signal))

    def _into_patches(self, signal: torch.Tensor) -> torch.Tensor:
        """Cut (batch, n_times, ...) into (batch, n_patches, patch_size, ...)."""
        n_missing = self.n_patches * self.patch_size - self.n_times
        signal = F.pad(signal, (0, 0, 0, n_missing))
        return signal.unflatten(1, (self.n_patches, self.patch_size))

    def _entropy(self, x: torch.Tensor) -> torch.Tensor:
        """Return the DE (batch, n_steps, n_eeg_chans, n_bands), not yet scaled."""
        # (batch, n_eeg_chans, n_steps, length)
        steps = self._cut(self._select(x, self.eeg_chans))
        steps = steps.transpose(1, 2).flatten(0, 1)
        entropy = self.differential_entropy(steps)
        return entropy.unflatten(0, (-1, self.n_steps))

    def _eye(self, x: torch.Tensor) -> torch.Tensor:
        """Return the eye features (batch, n_steps, n_eye_chans), not yet scaled."""
        steps = self._cut(self._select(x, self.eye_chans))
        return at_least_single_precision(steps).nanmean(dim=-1).mT

    def _cut(self, x: torch.Tensor) -> torch.Tensor:
        """Cut (..., n_times) into steps (..., n_steps, length)."""
        length = self.n_times // self.n_steps
        return x[..., : self.n_steps * length].unflatten(-1, (self.n_steps, length))


def make_transformer(
    dim: int,
    n_layers: int,
    n_heads: int,
    mlp_ratio: float,
    drop_prob: float,
    activation: type[nn.Module],
) -> nn.Sequential:
    """Return pre-norm transformer layers, closed by a norm."""
    layers = [
        nn.TransformerEncoderLayer(
            dim,
            n_heads,
            dim_feedforward=round(mlp_ratio * dim),
            dropout=drop_prob,
            activation=activation(),
            batch_first=True,
            norm_first=True,
        )
        for _ in range(n_layers)
    ]
    for layer in layers:
        layer.self_attn.dropout = 0.0  # of the weights; see drop_prob of MoodReader
    return nn.Sequential(*layers, nn.LayerNorm(dim))


def make_positions(n_positions: int, dim: int) -> torch.Tensor:
    """Return the sines and cosines (n_positions, dim) of the first transformer."""
    rates = 10_000.0 ** (-torch.arange(0, dim, 2) / dim)  # (dim / 2,)
    angles = torch.outer(torch.arange(n_positions), rates)  # (n_positions, dim / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Scaler(nn.Module):
    """Subtract a mean and divide by a standard deviation of the training windows."""

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale (..., *shape)."""
        # The DE of a half-precision signal comes in single precision.
        return ((x - self.mean) / self.std).to(self.mean.dtype)


class _Spectrum(nn.Module):
    """Amplitude of each frequency of a patch, after a Hann window."""

    def __init__(self, patch_size: int):
        super().__init__()
        # Between its zeros, so that each sample counts and patches may be of one.
        angles = torch.pi * (torch.arange(patch_size) + 0.5) / patch_size
        self.register_buffer("taper", angles.sin().square(), persistent=False)
        self.n_freqs = patch_size // 2 + 1

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Map (..., patch_size, n_chans) to (..., n_freqs, n_chans)."""
        # There is no FFT in half precision.
        tapered = at_least_single_precision(patches) * self.taper[:, None]
        return torch.fft.rfft(tapered, dim=-2, norm="forward").abs()


class _SignalEncoder(nn.Module):
    """Transformer over the visible patches."""

    def __init__(self, n_patches: int, patch_dim: int, dim: int, layers: nn.Module):
        super().__init__()
        self.projection = nn.Linear(patch_dim, dim)
        positions = make_positions(n_patches, dim)
        self.register_buffer("positions", positions, persistent=False)
        self.layers = layers

    def forward(
        self, patches: torch.Tensor, visible: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Map (batch, n_patches, patch_dim) to (batch, n_visible, dim)."""
        positions = self.positions[None]  # (1, n_patches, dim)
        if visible is not None:
            # (batch, n_visible, ...)
            patches = patches.take_along_dim(visible[..., None], dim=1)
            positions = positions.take_along_dim(visible[..., None], dim=1)
        return self.layers(self.projection(patches) + positions)


class _FeatureEncoder(nn.Module):
    """Interlinked spatial-temporal attention over the DE."""

    def __init__(
        self, shape: tuple[int, int, int], dim: int, layers: list[_InterlinkedLayer]
    ):
        super().__init__()
        n_steps, n_chans, n_bands = shape
        self.projection = nn.Linear(n_bands, dim)
        self.step_embedding = nn.Parameter(torch.empty(n_steps, 1, dim))
        self.channel_embedding = nn.Parameter(torch.empty(n_chans, dim))
        nn.init.trunc_normal_(self.step_embedding, std=0.02)
        nn.init.trunc_normal_(self.channel_embedding, std=0.02)
        self.layers = nn.ModuleList(layers)
        filters = torch.empty(len(layers), n_chans, dim)
        self.spatial_filters = nn.Parameter(nn.init.normal_(filters, std=n_chans**-0.5))

    def forward(
        self,
        entropy: torch.Tensor,
        mask: torch.Tensor | None = None,
        mask_token: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map (batch, n_steps, n_chans, n_bands) to (batch, n_layers, dim)."""
        x = self._embed(entropy, mask, mask_token)  # (batch, n_steps, n_chans, dim)
        levels = []
        for layer, filters in zip(self.layers, self.spatial_filters, strict=True):
            x = layer(x)
            # A mean over channels would forget where on the head a feature was.
            levels.append((x.mean(dim=1) * filters).sum(dim=1))
        return torch.stack(levels, dim=1)

    def attention_weights(self, entropy: torch.Tensor) -> torch.Tensor:
        """Map (batch, n_steps, n_chans, n_bands) to (batch, n_chans)."""
        x = self._embed(entropy)
        levels = []
        for layer in self.layers:
            levels.append(layer.attention_weights(x))
            x = layer(x)
        return torch.stack(levels).mean(dim=0)

    def _embed(self, entropy, mask=None, mask_token=None) -> torch.Tensor:
        """Return the tokens (batch, n_steps, n_chans, dim)."""
        tokens = self.projection(entropy)
        if mask is not None:
            tokens = torch.where(mask[..., None], mask_token.to(tokens.dtype), tokens)
        return tokens + self.step_embedding + self.channel_embedding


class _InterlinkedLayer(nn.Module):
    """Attention over channels and over steps, each of which then queries the other."""

    def __init__(
        self,
        dim: int,
        n_heads: int,
        mlp_ratio: float,
        drop_prob: float,
        activation: type[nn.Module],
    ):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.space = _Attention(dim, n_heads, drop_prob)
        self.time = _Attention(dim, n_heads, drop_prob)
        self.space_norm = nn.LayerNorm(dim)
        self.time_norm = nn.LayerNorm(dim)
        self.space_to_time = _Attention(dim, n_heads, drop_prob)
        self.time_to_space = _Attention(dim, n_heads, drop_prob)
        hidden = round(mlp_ratio * dim)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden),
            activation(),
            nn.Dropout(drop_prob),
            nn.Linear(hidden, dim),
            nn.Dropout(drop_prob),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, n_steps, n_chans, dim) to the same shape."""
        space, time = self._attend(x)
        s, t = self.space_norm(space), self.time_norm(time)
        space = space + self.space_to_time(s, t)
        time = time + _over_steps(self.time_to_space, t, s)
        both = space + time
        return both + self.feed_forward(both)

    def attention_weights(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weight (batch, n_chans) that each channel gets."""
        normed = self.norm(x)
        space, time = self._attend(x)
        weights = self.space.weights(normed, normed)  # (batch, step, query, channel)
        interlinked = self.space_to_time.weights(
            self.space_norm(space), self.time_norm(time)
        )
        return ((weights + interlinked) / 2).mean(dim=(1, 2))

    def _attend(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend over the channels of each step, and over the steps of each channel."""
        normed = self.norm(x)
        space = x + self.space(normed, normed)
        time = x + _over_steps(self.time, normed, normed)
        return space, time


class _Attention(nn.Module):
    """Multi-head attention over the last axis but one, whose weights can be read."""

    def __init__(self, dim: int, n_heads: int, drop_prob: float):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(dim, dim)
        # A constant added to all keys changes no weight.
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(drop_prob))

    def forward(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Map (..., n_queries, dim) and (..., n_keys, dim) to (..., n_queries, dim)."""
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(queries)),
            self._heads(self.key(context)),
            self._heads(self.value(context)),
        )  # (-1, n_heads, n_queries, dim / n_heads)
        return self.output(attended.transpose(1, 2).reshape(queries.shape))

    def weights(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """Return the weights (..., n_queries, n_keys), mean over the heads."""
        query = self._heads(self.query(queries))
        key = self._heads(self.key(context))
        logits = query @ key.mT / math.sqrt(query.shape[-1])
        weights = logits.softmax(dim=-1).mean(dim=1)  # (-1, n_queries, n_keys)
        return weights.reshape(*queries.shape[:-1], -1)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """Split (..., n, dim) into (-1, n_heads, n, dim / n_heads)."""
        x = x.reshape(-1, *x.shape[-2:])
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class _EyeFusion(nn.Module):
    """Gate between EEG and eye features, and attention of the former to the latter."""

    def __init__(
        self,
        n_eye_chans: int,
        dim: int,
        n_heads: int,
        drop_prob: float,
        activation: type[nn.Module],
    ):
        super().__init__()
        self.tokens = nn.Sequential(
            nn.Linear(2 * n_eye_chans, dim),
            activation(),
            nn.Dropout(drop_prob),
            nn.Linear(dim, dim),
        )
        # At first, a missing feature has the value that is its mean.
        nn.init.zeros_(self.tokens[0].weight[:, n_eye_chans:])
        self.score = nn.Linear(dim, 1, bias=False)
        self.gate = nn.Linear(2 * dim, dim)
        self.attention = _Attention(dim, n_heads, drop_prob)

    def forward(self, fused: torch.Tensor, eye: torch.Tensor) -> torch.Tensor:
        """Map (batch, dim) and (batch, n_steps, n_eye_chans) to (batch, dim)."""
        missing = eye.isnan()
        known = eye.masked_fill(missing, 0.0)
        # (batch, n_steps, dim)
        tokens = self.tokens(torch.cat([known, missing.to(known.dtype)], dim=-1))
        pooled = (self.score(tokens).softmax(dim=1) * tokens).sum(dim=1)  # (batch, dim)
        gate = self.gate(torch.cat([fused, pooled], dim=1)).sigmoid()
        attended = self.attention(fused[:, None], tokens)[:, 0]
        return gate * fused + (1 - gate) * pooled + attended


def _over_steps(
    attention: _Attention, queries: torch.Tensor, context: torch.Tensor
) -> torch.Tensor:
    """Attend over the steps of (batch, n_steps, n_chans, dim)."""
    return attention(queries.transpose(1, 2), context.transpose(1, 2)).transpose(1, 2)


def _pool(
    moments: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of all, from those (n_chunks, 2, ...) of chunks."""
    means, variances = moments.unbind(dim=1)
    mean = torch.tensordot(weights, means, dims=1)
    return mean, torch.tensordot(weights, variances + (means - mean) ** 2, dims=1)


def _measure_known(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance of what is not NaN in (n_windows, n_steps, n)."""
    never = values.isnan().all(dim=(0, 1))
    mean = values.nanmean(dim=(0, 1))
    variance = (values - mean).square().nanmean(dim=(0, 1))
    return mean.masked_fill(never, 0.0), variance.masked_fill(never, 0.0)


def _find_channels(
    chs_info: Sequence[Mapping] | None,
    n_chans: int,
    eye_channels: Sequence[str] | Sequence[int] | None,
) -> tuple[list[int], list[int]]:
    """Return the positions of the EEG channels and of the eye features."""
    channels = [{}] * n_chans if chs_info is None else list(chs_info)
    is_eye = [_is_eye(channel) for channel in channels]
    if eye_channels is None:
        eye = [i for i in range(n_chans) if is_eye[i]]
    else:
        eye = _find_listed(eye_channels, channels)
    rest = [i for i in range(n_chans) if i not in eye and not is_eye[i]]
    found = find_modalities([channels[i] for i in rest], len(rest))
    eeg = [rest[i] for i in found.pop("eeg", [])]
    if not eeg:
        raise ValueError(
            "MoodReader needs channels of the type eeg, but got none among "
            f"{n_chans} channels, of which {len(eye)} are eye features. Pick the "
            "channels and set their types before cutting windows."
        )
    if found:
        left = {
            kind: [channels[rest[i]].get("ch_name") for i in places]
            for kind, places in found.items()
        }
        warnings.warn(
            f"MoodReader takes EEG and eye features; it leaves out {left}. Pick "
            "channels before cutting windows, or list eye features in eye_channels.",
            stacklevel=3,
        )
    return eeg, eye


def _is_eye(channel: Mapping) -> bool:
    """Return whether a channel is an eye feature, by its type, else by its name."""
    constants = mne.io.get_channel_type_constants()
    kind, name = channel.get("kind"), str(channel.get("ch_name", ""))
    if any(kind in (known, constants[known]["kind"]) for known in _EYE_TYPES):
        return not _EAR_NAMES.match(name)
    is_open = kind in (None, "eeg", constants["eeg"]["kind"])
    return is_open and bool(_EYE_NAMES.match(name))


def _find_listed(eye_channels: Sequence, channels: Sequence[Mapping]) -> list[int]:
    """Return the positions of eye features listed by name or position."""
    names = [channel.get("ch_name") for channel in channels]
    places = range(len(channels))
    missing = [c for c in eye_channels if c not in (*names, *places)]
    if missing:
        known = names if any(names) else "no names, as there is no chs_info"
        raise ValueError(
            f"eye_channels must be names in chs_info or positions below {len(names)}, "
            f"but {missing} are not among the channels: {known}."
        )
    listed = {c if c in places else names.index(c) for c in eye_channels}
    return sorted(listed)


def check_width(name: str, dim: int, heads_name: str, n_heads: int) -> None:
    """Raise unless the width can be shared out among the heads, and is even."""
    if n_heads < 1 or dim < 1 or dim % n_heads or dim % 2:
        raise ValueError(
            f"{name} must be even and a multiple of {heads_name}, but got "
            f"{name}={dim} and {heads_name}={n_heads}."
        )


def find_visible(mask: torch.Tensor, n_visible: int) -> torch.Tensor:
    """Return the places (batch, n_visible) that a mask leaves visible, in order."""
    return mask.byte().argsort(dim=1, stable=True)[:, :n_visible]


def _count_visible(mask: torch.Tensor, shape: torch.Size) -> int:
    """Return how many patches a mask leaves visible, equally many in each window."""
    if mask.dtype != torch.bool or mask.shape != shape:
        raise ValueError(
            f"mask must be of bool and shape (batch, n_patches) = {tuple(shape)}, but "
            f"got {mask.dtype} of {tuple(mask.shape)}."
        )
    n_visible = (~mask).sum(dim=1)
    if (n_visible != n_visible[0]).any() or not n_visible[0]:
        raise ValueError(
            "mask must leave the same number of patches, at least one, visible in each "
            f"window, but got {n_visible.tolist()}."
        )
    return int(n_visible[0])
