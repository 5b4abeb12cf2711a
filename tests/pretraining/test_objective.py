"""The base class of the objectives keeps how an objective was built."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from braindecode_emossl.models import SCMM
from braindecode_emossl.pretraining import PretrainingObjective, SCMMPretraining


class Toy(PretrainingObjective):
    def __init__(self, encoder, width=3, *, rate=0.5, random_state=None):
        super().__init__(encoder)
        self.width = 10 * width  # not the argument


class Wider(Toy):
    def __init__(self, encoder, *, width=7, more=(1, 2)):
        super().__init__(encoder, width, rate=0.1)


class Plain(Toy):
    pass


@pytest.mark.parametrize(
    ("cls", "args", "kwargs", "changed"),
    [
        (Toy, (), {}, {}),
        (Toy, (4,), {}, {"width": 4}),
        (Toy, (4,), {"rate": 0.2}, {"width": 4, "rate": 0.2}),
        (Plain, (), {"rate": 0.2}, {"rate": 0.2}),
    ],
)
def test_settings_are_the_arguments_and_the_defaults(cls, args, kwargs, changed):
    expected = {"width": 3, "rate": 0.5, "random_state": None, **changed}
    assert cls(nn.Linear(2, 2), *args, **kwargs).settings == expected
    if not args:
        assert cls(encoder=nn.Linear(2, 2), **kwargs).settings == expected


def test_settings_are_those_of_the_class_itself_not_of_a_base():
    objective = Wider(nn.Linear(2, 2), more=[3])
    assert objective.settings == {"width": 7, "more": [3]}
    assert objective.width == 70


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, clone, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_settings_and_provenance_survive_copies(copied):
    rng = np.random.RandomState(3)
    objective = Toy(nn.Linear(2, 2), 5, random_state=rng)
    objective.encoder.provenance = {"corpora": {}, "complete": True}
    twin = clone(objective, safe=False) if copied is clone else copied(objective)
    state = twin.settings.pop("random_state")
    assert state.randint(10**6) == np.random.RandomState(3).randint(10**6)
    assert twin.settings["width"] == 5
    assert twin.encoder is not objective.encoder
    assert twin.provenance == {"corpora": {}, "complete": True}


def test_an_objective_may_build_its_encoder():
    """Its settings took the first argument for the encoder.

    A trainer with checkpoint_dir then failed with "too many positional arguments".
    """

    class Own(PretrainingObjective):
        def __init__(self, width=3, rate=0.5):
            super().__init__(nn.Linear(width, 2))

    assert Own(4).settings == {"width": 4, "rate": 0.5}
    assert copy.deepcopy(Own(rate=1.0)).settings == {"width": 3, "rate": 1.0}


def test_the_windows_are_scaled_without_a_prepare_of_its_own():
    """Pre-trained weights saw other input than random ones, which were scaled."""

    class Own(PretrainingObjective):
        pass

    encoder = SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    X = np.random.default_rng(0).normal(3, 2, size=(50, 4, 5))
    Own(encoder).prepare(X)
    torch.testing.assert_close(
        encoder.feature_shift, torch.tensor(X.mean(axis=0)).float()
    )


def test_the_encoder_is_not_among_the_settings():
    objective = SCMMPretraining(
        SCMM(n_outputs=2, n_chans=4, n_times=5, input_domain="de")
    )
    assert "encoder" not in objective.settings
    assert not any(isinstance(v, nn.Module) for v in objective.settings.values())


def test_a_new_objective_has_no_provenance():
    assert Toy(nn.Linear(2, 2)).provenance is None


def test_wrong_arguments_are_named_by_the_constructor():
    with pytest.raises(TypeError, match=r"Toy.__init__\(\) got an unexpected.*'widht'"):
        Toy(nn.Linear(2, 2), widht=3)
