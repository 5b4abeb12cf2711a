"""The only file that touches private names of the host libraries.

The hosts are MOABB, braindecode, skorch, MNE, scikit-learn, torch and Python. Each
entry gives the reason why a private name is needed and the public name that would
replace it.
torch and braindecode are imported inside the functions that need them, because the
corpora use this file and work without both.
"""

from __future__ import annotations

import inspect

# Reason: MOABB passes `groups` to a splitter only if it is a GroupsConsumerMixin, and
# scikit-learn routes `groups` by it. Waits for: sklearn.model_selection to export it.
from sklearn.model_selection._split import GroupsConsumerMixin

__all__ = [
    "GroupsConsumerMixin",
    "find_caller",
    "get_init_arguments",
    "is_being_imported",
    "selected_sessions",
    "set_n_outputs",
    "set_summary_table",
]


def find_caller(kind: type | tuple[type, ...]):
    """Return the nearest object of a class whose method is on the call stack, or None.

    Reason: an evaluation of MOABB does not tell its paradigm how windows will be split.
    Waits for: MOABB to pass the evaluation to ``paradigm.get_data``. No private name.
    """
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, kind):
            return caller
        frame = frame.f_back
    return None


def set_summary_table(dataset) -> None:
    """Give MOABB's plots the ``summary_table`` of a dataset or of its class.

    Reason: MOABB's plots of datasets read the attribute ``_summary_table``.
    Waits for: a public attribute of ``moabb.datasets.base.BaseDataset``.
    """
    dataset._summary_table = dict(dataset.summary_table)


def get_init_arguments(model) -> dict:
    """Return the arguments that a model of braindecode was built with, as given.

    Reason: ``get_config`` replaces values that JSON does not have, such as numbers of
    NumPy, by None, so that another model would be rebuilt without an error.
    Waits for: ``get_config`` of ``EEGModuleMixin`` to write or refuse such values.
    """
    return dict(model._braindecode_init_kwargs)


def is_being_imported(module) -> bool:
    """Return whether the import of a module is still running.

    Reason: the import of a host may lead to that of this package, when the host's
    registry does not exist yet.
    Waits for: a public attribute of ``importlib.machinery.ModuleSpec``.
    """
    return getattr(module.__spec__, "_initializing", False)


def selected_sessions(dataset) -> list | None:
    """Return the sessions that a dataset of MOABB was restricted to, None for all.

    Reason: stored results must distinguish them, and MOABB does not.
    Waits for: a public attribute of ``moabb.datasets.base.BaseDataset``.
    """
    return getattr(dataset, "_selected_sessions", None)


def set_n_outputs(model, n_outputs: int) -> None:
    """Record a new number of outputs in a model of braindecode and its configs.

    Reason: braindecode offers it to subclasses, for their ``reset_head``, but under a
    private name.
    Waits for: a public method of ``braindecode.models.base.EEGModuleMixin``.
    """
    model._set_n_outputs(n_outputs)
