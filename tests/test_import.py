"""Imports: their side effects, and their direction within the package."""

from __future__ import annotations

import ast
import importlib
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import braindecode_emossl
import braindecode_emossl.datasets
import braindecode_emossl.paradigms
from braindecode_emossl import errors

PACKAGE = "braindecode_emossl"
# Folders of the source by the package that they are imported as.
FOLDERS = {
    PACKAGE: Path(braindecode_emossl.__file__).parent,
    f"{PACKAGE}.datasets": Path(braindecode_emossl.datasets.__file__).parent,
    f"{PACKAGE}.paradigms": Path(braindecode_emossl.paradigms.__file__).parent,
}


def find_modules() -> dict[str, Path]:
    modules = {}
    for package, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            modules[".".join([package, *parts])] = file
    return modules


MODULES = find_modules()


def read_stub(package: str) -> dict[str, str]:
    """Return the module of each public name of a package."""
    file = MODULES[package].with_suffix(".pyi")
    nodes = ast.walk(ast.parse(file.read_text() if file.is_file() else ""))
    return {
        alias.name: f"{package}.{node.module}" if node.module else package
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


STUBS = {
    module: read_stub(module)
    for module, file in MODULES.items()
    if file.name == "__init__.py"
}


def imports_of(module: str, only_at_start: bool = False) -> set[str]:
    """Return the absolute names of all modules that a module imports.

    ``only_at_start`` omits imports within functions and for type checkers.
    """
    file = MODULES[module]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    nodes = [ast.parse(file.read_text())]
    while nodes:
        node = nodes.pop()
        if only_at_start and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(up if node.level else []), *filter(None, [node.module])])
            for name in [alias.name for alias in node.names]:
                full = f"{base}.{name}"
                found.add(
                    full if full in MODULES else STUBS.get(base, {}).get(name, base)
                )
        nodes.extend(ast.iter_child_nodes(node))
    return found


def layer_of(module: str) -> str:
    """Return the folder or file directly below the package."""
    return [*module.split("."), ""][1]


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


# -- direction of imports ------------------------------------------------------

# Layers that everything may import; they import only errors.
SHARED = {"checks", "errors", "hosts", "storage"}
# Layers that the modules of a layer may import, in addition to their own and SHARED.
# The package itself, its registration and the command line may import everything.
ALLOWED = {
    "checks": set(),
    "errors": set(),
    "hosts": set(),
    "storage": set(),
    "augmentation": set(),
    "features": set(),
    "losses": set(),
    "models": {"augmentation", "features", "losses"},
    "samplers": {"augmentation", "features", "losses"},
    "pretraining": {"augmentation", "features", "losses", "models", "samplers"},
    "datasets": {"features"},  # replicas of features that makers released
    "paradigms": {"datasets", "features"},
}
UPPER = {
    "",
    "registration",
    "demo",
    "downloads",
    "cli",
    "evaluation",
    "report",
    "report_card",
    "report_content",
    "report_page",
    "terminal",
    "visualization",
    "__main__",
}


def test_source_is_found():
    assert {"", "registration", *ALLOWED} <= set(map(layer_of, MODULES))
    assert f"{PACKAGE}.datasets.seed" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    layer = layer_of(module)
    ours = {layer_of(name) for name in imports_of(module) if is_below(name, PACKAGE)}
    if layer in UPPER:
        return
    assert layer in ALLOWED, f"Add {layer!r} and its imports to ALLOWED."
    shared = {"errors"} if layer in SHARED else SHARED
    assert ours <= ALLOWED[layer] | {layer} | shared


@pytest.mark.parametrize("module", MODULES)
def test_no_layer_imports_the_upper_ones(module):
    if layer_of(module) in UPPER:
        return
    assert not {layer_of(name) for name in imports_of(module)} & (UPPER - {""})
    assert PACKAGE not in imports_of(module)


LIGHT_FEATURES = ("", ".bands", ".differential_entropy")
LIGHT = [
    module
    for module in MODULES
    if layer_of(module) in ("datasets", "paradigms", *SHARED)
    or module in [f"{PACKAGE}.features{name}" for name in LIGHT_FEATURES]
]


@pytest.mark.parametrize("module", LIGHT)
def test_corpora_need_no_torch(module):
    heavy = {"torch", "braindecode", "skorch", "torchaudio", "lightning"}
    seen, todo = set(), [module]
    while todo:  # follow our own modules
        name = todo.pop()
        seen.add(name)
        found = imports_of(name, only_at_start=True)
        assert not {other.split(".")[0] for other in found} & heavy, name
        todo += [other for other in found if other in MODULES and other not in seen]


REGISTERED = ("datasets", "paradigms", "models")


def test_what_registered_classes_need_imports_no_host():
    """A host gets our classes at the end of its import.

    A module that imports it first would be incomplete by then. Registration waits for
    those of the packages that are registered, but not for others.
    """
    seen, todo = set(), [name for name in MODULES if layer_of(name) in REGISTERED]
    while todo:  # follow our own modules
        name = todo.pop()
        seen.add(name)
        found = imports_of(name, only_at_start=True)
        if layer_of(name) not in REGISTERED:
            hosts = {"moabb", "braindecode"}
            assert not {other.split(".")[0] for other in found} & hosts, name
        todo += [other for other in found if other in MODULES and other not in seen]
    assert f"{PACKAGE}.features.bands" in seen


def test_storage_imports_no_host_library():
    """Results can be read, and files hashed, without loading torch or MOABB."""
    hosts = {"braindecode", "mne", "moabb", "sklearn", "skorch", "torch"}
    found = imports_of(f"{PACKAGE}.storage", only_at_start=True)
    assert not {name.split(".")[0] for name in found} & hosts


@pytest.mark.parametrize("module", MODULES)
def test_models_and_hosts(module):
    if layer_of(module) in ("features", "augmentation", "losses", "models"):
        assert not any(is_below(name, "moabb") for name in imports_of(module))
    registries = ("moabb.datasets.utils._init_dataset", "braindecode.models.util")
    text = MODULES[module].read_text()
    if layer_of(module) not in ("registration", "pretraining"):
        assert not any(name in text for name in registries)


# -- public names --------------------------------------------------------------


@pytest.mark.parametrize("package", [name for name in STUBS if STUBS[name]])
def test_public_names_are_those_of_the_stub(package):
    module = importlib.import_module(package)
    assert module.__all__ == dir(module) == sorted(STUBS[package])
    for name in module.__all__:
        value = getattr(module, name)
        assert not isinstance(value, ModuleType) or package == PACKAGE
        if isinstance(value, type):
            assert pickle.loads(pickle.dumps(value)) is value


# -- side effects --------------------------------------------------------------

WATCH = """
import logging, os, random, sys, warnings
import braindecode, matplotlib, matplotlib.pyplot, mne, moabb, moabb.datasets
import moabb.benchmark, moabb.paradigms, numpy, pandas, skorch, torch

def snapshot():
    names = ("root", "mne", "moabb", "braindecode", "skorch", "torch", "matplotlib")
    loggers = {name: logging.getLogger(name) for name in names}
    return {
        "log levels": {name: logger.level for name, logger in loggers.items()},
        "log handlers": {name: logger.handlers[:] for name, logger in loggers.items()},
        "warnings": list(warnings.filters),
        "hooks": (sys.excepthook, warnings.showwarning, list(sys.path)),
        "backend": matplotlib.get_backend(),
        "style": dict(matplotlib.rcParams),
        "random": random.getstate(),
        "numpy": [str(part) for part in numpy.random.get_state()],
        "numpy errors": numpy.geterr(),
        "torch": torch.get_rng_state().tolist(),
        "torch settings": (
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
        ),
        "pandas": pandas.get_option("display.width"),
        "mne": mne.get_config(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
    }

before = snapshot()
import braindecode_emossl
for name in braindecode_emossl.__all__:
    part = getattr(braindecode_emossl, name)
    for public in getattr(part, "__all__", ()):
        getattr(part, public)
after = snapshot()
changed = [name for name in before if before[name] != after[name]]
assert not changed, changed
"""


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_import_changes_nothing_global():
    assert not run_python(WATCH).strip()


def test_errors_and_warnings_are_at_the_top_level():
    """CorpusFormatWarning was not, though users filter it, nor was the base class."""
    assert set(errors.__all__) <= set(braindecode_emossl.__all__)
    assert all(hasattr(braindecode_emossl, name) for name in errors.__all__)


def test_importing_a_part_registers_and_writes_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("_MNE_FAKE_HOME_DIR", str(tmp_path))
    monkeypatch.setenv("MNE_DATA", str(tmp_path / "nowhere"))
    run_python(
        """
        import moabb.datasets
        before = len(moabb.datasets.utils.dataset_list)
        from braindecode_emossl.datasets import DEAP, SEED
        assert moabb.datasets.SEED is SEED
        from braindecode_emossl.registration import DATASETS
        after = len(moabb.datasets.utils.dataset_list)
        assert after == before + len(DATASETS)
        SEED(), DEAP()  # which are not there
        """
    )
    assert not list(tmp_path.iterdir())
