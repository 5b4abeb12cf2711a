"""Masks and meiosis as transforms of braindecode."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from braindecode.augmentation import Transform
from torch.utils.data import get_worker_info

from braindecode_emossl.augmentation.masking import sample_hybrid_mask
from braindecode_emossl.augmentation.meiosis import meiosis
from braindecode_emossl.augmentation.patch_masking import sample_patch_mask
from braindecode_emossl.augmentation.span_masking import sample_span_mask

__all__ = [
    "ChannelMask",
    "HybridMask",
    "Meiosis",
    "ParallelMask",
    "PatchMask",
    "RandomMask",
    "SpanMask",
]


class _SeededTransform(Transform):
    """A transform that draws on the device of the windows."""

    def _make_generator(self, device: torch.device) -> torch.Generator:
        """Return a generator for one call, seeded by ``random_state``."""
        seed = int(self.rng.randint(np.iinfo(np.int32).max))
        if (worker := get_worker_info()) is not None:
            # Each worker starts each epoch with the same copy of rng.
            seed = (seed + worker.seed) % 2**63
        return torch.Generator(device).manual_seed(seed)


def _apply_mask(
    X: torch.Tensor, y: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Set to zero what is masked."""
    return X.masked_fill(mask, 0.0), y


class _Mask(_SeededTransform):
    """Base of the transforms that set entries of windows to zero."""

    operation = staticmethod(_apply_mask)

    def get_augmentation_params(self, *batch):
        """Draw the mask of a batch.

        Parameters
        ----------
        *batch : torch.Tensor
            Windows, shape (batch, n_chans, n_times), and labels.

        Returns
        -------
        dict
            ``mask``, of bool and broadcastable to the windows: True where masked.

        Raises
        ------
        ValueError
            If the windows are not of that shape.
        """
        X = batch[0]
        if X.ndim != 3:
            raise ValueError(
                "X must be of shape (batch, n_chans, n_times), "
                f"but got {tuple(X.shape)}."
            )
        return {"mask": self._sample(X.shape, self._make_generator(X.device))}

    def _sample(self, shape, generator):
        """Draw a mask for windows of a shape, on the device of the generator."""
        raise NotImplementedError


class HybridMask(_Mask):
    r"""Mask single features of most channels, and a few channels as a whole.

    The masking of SCMM [1]_, see
    :func:`~braindecode_emossl.augmentation.sample_hybrid_mask`. Masked entries are
    zero, so windows should be scaled such that zero says nothing.

    Parameters
    ----------
    probability : float, default=1.0
        Chance of a window to be masked at all.
    mask_ratio : float, default=0.5
        Expected fraction of masked entries. [official code]
    threshold : float, default=0.1
        Expected fraction of channels that are kept or masked whole. [official code]
    random_state : int, RandomState or None
        Seed of the masks. It gives other masks on another kind of device, and in the
        workers of a data loader, whose seed also counts.

    References
    ----------
    .. [1] Liu, Q., Ye, W., Zhang, L., & Liang, Z. (2025). EEG-SCMM. In ACM MM.
       https://doi.org/10.1145/3746027.3755798

    Examples
    --------
    >>> X_masked = HybridMask(random_state=0)(X)  # (batch, n_chans, n_bands)
    """

    def __init__(
        self, probability=1.0, mask_ratio=0.5, threshold=0.1, random_state=None
    ):
        super().__init__(probability=probability, random_state=random_state)
        self.mask_ratio = mask_ratio
        self.threshold = threshold
        # A first draw checks the settings.
        self._draw(1, 1, 1, threshold=threshold, generator=torch.Generator())

    def _sample(self, shape, generator):
        return self._draw(*shape, threshold=self.threshold, generator=generator)

    @property
    def _draw(self):
        return partial(sample_hybrid_mask, mask_ratio=self.mask_ratio)


class RandomMask(HybridMask):
    """Mask single features, each on its own.

    Parameters
    ----------
    probability : float, default=1.0
        Chance of a window to be masked at all.
    mask_ratio : float, default=0.5
        Expected fraction of masked entries. [official code] of SCMM
    random_state : int, RandomState or None
        Seed of the masks. It gives other masks on another kind of device, and in the
        workers of a data loader, whose seed also counts.
    """

    def __init__(self, probability=1.0, mask_ratio=0.5, random_state=None):
        super().__init__(probability, mask_ratio, 0.0, random_state)


class ChannelMask(HybridMask):
    """Mask channels as a whole.

    Parameters
    ----------
    probability : float, default=1.0
        Chance of a window to be masked at all.
    mask_ratio : float, default=0.5
        Expected fraction of masked channels. [official code] of SCMM
    random_state : int, RandomState or None
        Seed of the masks. It gives other masks on another kind of device, and in the
        workers of a data loader, whose seed also counts.
    """

    def __init__(self, probability=1.0, mask_ratio=0.5, random_state=None):
        super().__init__(probability, mask_ratio, 1.0, random_state)


class ParallelMask(HybridMask):
    """Mask single features of most windows, and whole channels of a few.

    As :class:`HybridMask`, but one kind of masking for all channels of a window.

    Parameters
    ----------
    probability : float, default=1.0
        Chance of a window to be masked at all.
    mask_ratio : float, default=0.5
        Expected fraction of masked entries. [official code] of SCMM
    threshold : float, default=0.1
        Expected fraction of windows whose channels are masked whole. [official code]
        of SCMM
    random_state : int, RandomState or None
        Seed of the masks. It gives other masks on another kind of device, and in the
        workers of a data loader, whose seed also counts.
    """

    def _sample(self, shape, generator):
        features = self._draw(*shape, threshold=0.0, generator=generator)
        channels = self._draw(*shape, threshold=1.0, generator=generator)
        u = torch.rand((shape[0], 1, 1), generator=generator, device=generator.device)
        # (batch, n_chans, n_times)
        return torch.where(u > self.threshold, features, channels)


class SpanMask(_Mask):
    """Mask spans of time in all channels.

    The masking of :class:`~braindecode_emossl.pretraining.MaskedClusterPretraining`,
    see :func:`~braindecode_emossl.augmentation.sample_span_mask`, on windows instead of
    tokens of a model.

    Parameters
    ----------
    probability : float, default=1.0
        Chance of a window to be masked at all.
    mask_prob : float, default=0.8
        Fraction of masked time if no spans overlapped: 0.60 with overlaps. [inferred]
    mask_length : int, default=4
        Number of tokens of a span. [inferred]
    token_size : int, default=16
        Number of samples of a token, 125 ms at 128 Hz. [inferred] The last one may be
        shorter.
    random_state : int, RandomState or None
        Seed of the masks. It gives other masks on another kind of device, and in the
        workers of a data loader, whose seed also counts.
    """

    def __init__(
        self,
        probability=1.0,
        mask_prob=0.8,
        mask_length=4,
        token_size=16,
        random_state=None,
    ):
        super().__init__(probability=probability, random_state=random_state)
        _check_size("token_size", token_size)
        self.mask_prob = mask_prob
        self.mask_length = mask_length
        self.token_size = token_size
        # A first draw checks the settings.
        self._draw(1, 2, generator=torch.Generator())

    def _sample(self, shape, generator):
        n_tokens = math.ceil(shape[2] / self.token_size)
        mask = self._draw(shape[0], n_tokens, generator=generator)
        return _stretch(mask, self.token_size, shape[2])

    @property
    def _draw(self):
        return partial(
            sample_span_mask, mask_prob=self.mask_prob, mask_length=self.mask_length
        )


class PatchMask(_Mask):
    """Mask patches of time in all channels, equally many in each window.

    The masking of :class:`~braindecode_emossl.pretraining.MoodReaderPretraining`, see
    :func:`~braindecode_emossl.augmentation.sample_patch_mask`.

    Parameters
    ----------
    probability : float, default=1.0
        Chance of a window to be masked at all.
    mask_ratio : float, default=0.75
        Fraction of masked patches. [secondary source]
    patch_size : int, default=4
        Number of samples of a patch. [inferred] The last one may be shorter.
    random_state : int, RandomState or None
        Seed of the masks. It gives other masks on another kind of device, and in the
        workers of a data loader, whose seed also counts.
    """

    def __init__(
        self, probability=1.0, mask_ratio=0.75, patch_size=4, random_state=None
    ):
        super().__init__(probability=probability, random_state=random_state)
        _check_size("patch_size", patch_size)
        self.mask_ratio = mask_ratio
        self.patch_size = patch_size
        # A first draw checks the settings.
        self._draw(1, 1, generator=torch.Generator())

    def _sample(self, shape, generator):
        n_patches = math.ceil(shape[2] / self.patch_size)
        mask = self._draw(shape[0], n_patches, generator=generator)
        return _stretch(mask, self.patch_size, shape[2])

    @property
    def _draw(self):
        return partial(sample_patch_mask, mask_ratio=self.mask_ratio)


def _check_size(name: str, size: int) -> None:
    """Raise if a token would have no samples."""
    if size < 1:
        raise ValueError(f"{name} must be at least 1, but got {size}.")


def _stretch(mask: torch.Tensor, size: int, n_times: int) -> torch.Tensor:
    """Return a mask of samples, (batch, 1, n_times), of one of tokens."""
    return mask.repeat_interleave(size, dim=1)[:, None, :n_times]


def _cross(
    X: torch.Tensor, y: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross the windows of each item, group a before group b."""
    return torch.cat([*meiosis(X, generator=generator)], dim=1), y


class Meiosis(_SeededTransform):
    """Cross the windows of each item in pairs.

    As in SGMC [1]_, see :func:`~braindecode_emossl.augmentation.meiosis`. Items are
    windows ``(n_items, 2 * group_size, n_chans, n_times)``, as
    :class:`~braindecode_emossl.samplers.StimulusGroupSampler` delivers them. Of each
    item returned, the first ``group_size`` windows are one group, and the others the
    group of their complements.

    The labels are left as they are. Those of the stimulus stay true; the windows of a
    subject go to another place, and to two windows, so ratings do not.

    Parameters
    ----------
    probability : float, default=1.0
        Chance of an item to be crossed.
    random_state : int, RandomState or None
        Seed of the pairs and cuts. It gives others on another kind of device.

    References
    ----------
    .. [1] Kan et al. (2023). Self-supervised group meiosis contrastive learning
       for EEG-based emotion recognition. Applied Intelligence, 53(22), 27207-27225.
       https://doi.org/10.1007/s10489-023-04971-0
    """

    operation = staticmethod(_cross)

    def __init__(self, probability=1.0, random_state=None):
        super().__init__(probability=probability, random_state=random_state)

    def get_augmentation_params(self, *batch):
        """Return the source of pairs and cuts.

        Parameters
        ----------
        *batch : torch.Tensor
            Items, shape (n_items, 2 * group_size, n_chans, n_times), and labels.

        Returns
        -------
        dict
            ``generator``, on the device of the items.
        """
        return {"generator": self._make_generator(batch[0].device)}
