"""Registers the package's classes with MOABB and braindecode.

Neither host has an extension point, so their registries are extended in place: at once
if the host is imported already, and else at the end of its import, which a finder on
``sys.meta_path`` notices.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["register"]

# Sub-packages with classes for a host, and the base class of these.
_BASES = {
    "datasets": "moabb.datasets.base:BaseDataset",
    "paradigms": "moabb.paradigms.base:BaseParadigm",
    "models": "torch.nn:Module",
}


def __getattr__(name: str) -> tuple[type[Any], ...]:
    """Return the classes DATASETS, PARADIGMS or MODELS, which import their host."""
    if name.isupper() and name.lower() in _BASES:
        return _find_classes(name.lower())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def register():
    """Register the package's classes with MOABB and braindecode under their names.

    Importing the package calls this function; further calls have no effect. A host that
    is imported later gets the classes at the end of its import. Then
    ``moabb.datasets.SEED``, ``moabb.benchmark``, ``python -m moabb.run``,
    ``EEGClassifier("SCMM")`` and ``MOABBDataset("SEED")`` find them.

    Raises
    ------
    ValueError
        If a host already has another class of the same name. If the host is imported
        after this package, its import raises the error.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for host in set(_REGISTER) & set(sys.modules):
        importlib.import_module(host)  # waits if another thread is importing it
    _IMPORTS.done.clear()
    _IMPORTS.register()


# -- what ----------------------------------------------------------------------


def _find_classes(package: str) -> tuple[type[Any], ...]:
    """Return the concrete classes in the ``__all__`` of a sub-package."""
    base = pkgutil.resolve_name(_BASES[package])
    module = importlib.import_module(f"{__package__}.{package}")
    found = [getattr(module, name) for name in module.__all__]
    classes = [cls for cls in found if isinstance(cls, type) and issubclass(cls, base)]
    return tuple(cls for cls in classes if not inspect.isabstract(cls))


def _register_datasets(host: ModuleType) -> None:
    from moabb.datasets.utils import dataset_dict, dataset_list

    for cls in _find_classes("datasets"):
        _add(vars(host), cls, "moabb.datasets")
        _add(dataset_dict, cls, "moabb.datasets.utils.dataset_dict")
        if cls not in dataset_list:
            dataset_list.append(cls)
    dataset_list.sort(key=lambda cls: cls.__name__)  # as MOABB itself orders it


def _register_paradigms(host: ModuleType) -> None:
    for cls in _find_classes("paradigms"):
        _add(vars(host), cls, "moabb.paradigms")


def _register_models(host: ModuleType) -> None:
    from braindecode.models.util import models_dict

    for cls in _find_classes("models"):
        _add(models_dict, cls, "braindecode.models")


# By the module of the host that must be complete.
_REGISTER = {
    "braindecode.models": _register_models,
    "moabb.datasets": _register_datasets,
    "moabb.paradigms": _register_paradigms,
}


def _add(registry: dict, cls: type, where: str) -> None:
    if registry.setdefault(cls.__name__, cls) is not cls:
        raise ValueError(
            f"{where} already has another {cls.__name__}: "
            f"{registry[cls.__name__].__module__}.{cls.__name__}. This version of the "
            "package is not compatible with it; update one of the two."
        )


# -- when ----------------------------------------------------------------------


class _Imports:
    """The imports of hosts and of our classes that are running, in all threads.

    An import of our classes may start that of the host, which cannot be given them
    before they are complete. So registration waits until no such import is running.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.n_running = 0
        self.complete: set[str] = set()
        self.done: set[str] = set()

    def start(self) -> None:
        with self.lock:
            self.n_running += 1

    def end(self) -> None:
        with self.lock:
            self.n_running -= 1

    def register(self) -> None:
        """Register with the hosts that are complete, unless an import is running."""
        while host := self._start_next():
            try:
                _REGISTER[host](sys.modules[host])
                self.done.add(host)
            finally:
                self.end()

    def _start_next(self) -> str | None:
        ready = [h for h in _REGISTER if h not in self.done and self._is_complete(h)]
        with self.lock:
            if self.n_running or not ready:
                return None
            self.n_running = 1
            return ready[0]

    def _is_complete(self, host: str) -> bool:
        if host in self.complete or host not in sys.modules:
            return host in sys.modules
        from braindecode_emossl.hosts import is_being_imported

        return not is_being_imported(sys.modules[host])


_IMPORTS = _Imports()


class _Finder(MetaPathFinder):
    """Find what the other finders find, with a loader that reports the import's end."""

    def find_spec(self, name, path=None, target=None) -> ModuleSpec | None:
        ours = name.removeprefix(f"{__package__}.").partition(".")
        if name not in _REGISTER and not (ours[0] in _BASES and ours[2]):
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader)
                    return spec
        return None


class _Loader(Loader):
    """Load a module as its own loader does, which it leaves in its place."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        # An import gives the module a spec.
        module.__spec__.loader = self.loader  # type: ignore[union-attr]
        in_braindecode = module.__name__ == "braindecode.models"
        _IMPORTS.start()
        try:
            with _without_montage_warning() if in_braindecode else nullcontext():
                self.loader.exec_module(module)
        except BaseException as error:
            # Without this frame; what was raised has a traceback.
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise
        finally:
            _IMPORTS.end()
        _IMPORTS.complete.add(module.__name__)
        _IMPORTS.done.discard(module.__name__)
        _IMPORTS.register()


@contextmanager
def _without_montage_warning() -> Iterator[None]:
    """Hide that braindecode 1.8 names a montage which MNE 1.14 will have renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Montage name", FutureWarning)
        yield
