"""The objective of each model, by the model's name in braindecode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from braindecode_emossl.pretraining.objective import PretrainingObjective

__all__ = ["OBJECTIVES"]


class _Objectives(Mapping):
    """The public objectives, found when they are first asked for.

    They cannot be found at import, as the package imports modules that use this one.
    """

    @cached_property
    def _classes(self) -> dict[str, type[PretrainingObjective]]:
        from braindecode_emossl import pretraining

        found = [getattr(pretraining, name) for name in dir(pretraining)]
        return {
            item.model_class.__name__: item
            for item in found
            if isinstance(item, type)
            and issubclass(item, PretrainingObjective)
            and item.model_class is not None
        }

    def __getitem__(self, name: str) -> type[PretrainingObjective]:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


#: Objective classes by ``model_class.__name__``, from ``pretraining.__all__``.
OBJECTIVES: Mapping[str, type[PretrainingObjective]] = _Objectives()
