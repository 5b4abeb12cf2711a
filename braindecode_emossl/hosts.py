"""The only file that touches private names of the host libraries.

The hosts are MOABB, braindecode, skorch, MNE, scikit-learn and torch. Each entry gives
the reason why a private name is needed and the public name that would replace it.
torch and braindecode are imported inside the functions that need them, because the
corpora use this file and work without both.
"""

from __future__ import annotations

import inspect

# Reason: MOABB passes `groups` to a splitter only if it is a GroupsConsumerMixin, and
# scikit-learn routes `groups` by it. Waits for: sklearn.model_selection to export it.
from sklearn.model_selection._split import GroupsConsumerMixin

__all__ = ["GroupsConsumerMixin", "find_caller", "set_summary_table"]


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
