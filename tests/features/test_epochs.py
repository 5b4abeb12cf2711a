from __future__ import annotations

import mne
import numpy as np
import pandas as pd
from braindecode.datasets import BaseConcatDataset, WindowsDataset
from braindecode.preprocessing import Preprocessor, preprocess

from braindecode_emossl.features import (
    DifferentialEntropy,
    differential_entropy_epochs,
)


def make_windows(n_windows=4, n_chans=3):
    rng = np.random.default_rng(0)
    metadata = pd.DataFrame(
        {
            "target": np.arange(n_windows),
            "i_window_in_trial": np.arange(n_windows),
            "i_start_in_trial": 200 * np.arange(n_windows),
            "i_stop_in_trial": 200 * np.arange(1, n_windows + 1),
        }
    )
    epochs = mne.EpochsArray(
        1e-5 * rng.standard_normal((n_windows, n_chans, 200)),
        mne.create_info(n_chans, 200.0, "eeg"),
        metadata=metadata,
    )
    return BaseConcatDataset([WindowsDataset(epochs, {"subject": 1})])


def test_preprocessor_of_braindecode(tmp_path):
    windows = make_windows()
    X = windows.datasets[0].windows.get_data()
    step = Preprocessor(
        differential_entropy_epochs, apply_on_array=False, method="window-filter"
    )
    preprocess(windows, [step])
    extractor = DifferentialEntropy(200.0, method="window-filter", flatten=False)
    expected = extractor.transform(X)
    assert len(windows) == 4
    for i, (x, y, _) in enumerate(windows):
        assert y == i
        np.testing.assert_allclose(x, expected[i], rtol=1e-6)
    assert windows.datasets[0].windows.metadata["target"].tolist() == [0, 1, 2, 3]
    assert Preprocessor.deserialize(step.serialize()) == step
