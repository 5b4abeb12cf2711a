"""Private names of the host libraries are used in ``hosts.py`` alone."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest
from moabb.paradigms.base import BaseParadigm

import braindecode_emossl
from braindecode_emossl import hosts

HOSTS = ("moabb", "braindecode", "skorch", "mne", "mne_bids", "sklearn", "torch")
MOST_NAMES = 12

# Of the standard library, documented in spite of the underscore.
DOCUMENTED = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_host(module: str) -> bool:
    return module.split(".")[0] in HOSTS


def find_modules():
    """Return all modules of the package, by the path of their file."""
    modules = {}
    for info in pkgutil.walk_packages(
        braindecode_emossl.__path__, "braindecode_emossl."
    ):
        module = importlib.import_module(info.name)
        if getattr(module, "__file__", None):
            modules[Path(module.__file__)] = module
    return modules


MODULES = find_modules()
TREES = {path: ast.parse(path.read_text("utf-8")) for path in MODULES}
IDS = [
    module.__name__.removeprefix("braindecode_emossl.") for module in MODULES.values()
]


def defined_names(tree) -> set[str]:
    """Return the private names that code defines, and sets on self and cls."""
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Call(
                func=ast.Attribute(attr="register_buffer"),
                args=[ast.Constant(value=name), *_],
            ):
                names.add(name)
            case ast.Attribute(
                value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()
            ):
                names.add(name)
    return {name for name in names if is_private(name)}


OWN_NAMES = set().union(*map(defined_names, TREES.values())) | DOCUMENTED


def find_imports(tree):
    """Yield the private modules and names that are imported from hosts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if is_host(name) and any(map(is_private, name.split("."))):
                yield node.lineno, name


def find_attributes(tree, own_names=frozenset()):
    """Yield private attributes that the package does not define itself."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name):
                pass
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"),
                args=[_, ast.Constant(value=name), *_],
            ):
                pass
            case _:
                continue
        if is_private(name) and name not in own_names:
            yield node.lineno, name


def find_strings(tree):
    """Yield private modules of hosts in strings, as in import_module("...")."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if is_host(text):
                parts = text.split(".")
                is_name = all(map(str.isidentifier, parts))
                if is_name and any(map(is_private, parts)):
                    yield node.lineno, text


def find_overrides(module, tree):
    """Yield private names of host classes that the module's classes redefine."""
    for node in ast.walk(tree):
        cls = (
            getattr(module, node.name, None) if isinstance(node, ast.ClassDef) else None
        )
        if not inspect.isclass(cls):
            continue
        # Names in the body: hosts add others when a class is made.
        names = set().union(*(defined_names(ast.Module([n], [])) for n in node.body))
        for base in cls.__mro__:
            for name in names & set(vars(base)) if is_host(base.__module__) else ():
                # An abstract method is there to be implemented.
                if not getattr(vars(base)[name], "__isabstractmethod__", False):
                    yield node.lineno, f"{base.__module__}.{base.__name__}.{name}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_private_name_of_a_host(path):
    if MODULES[path] is hosts:
        return
    found = [
        *find_imports(TREES[path]),
        *find_strings(TREES[path]),
        *find_attributes(TREES[path], OWN_NAMES),
        *find_overrides(MODULES[path], TREES[path]),
    ]
    assert not found, f"{path}: use public names, or add a function to hosts.py"


def test_few_private_names_in_hosts():
    tree = TREES[Path(hosts.__file__)]
    names = {name for _, name in [*find_imports(tree), *find_attributes(tree)]}
    names |= {name for _, name in find_strings(tree)}
    names |= {name.split(".")[-1] for _, name in find_overrides(hosts, tree)}
    assert 0 < len(names) <= MOST_NAMES, sorted(names)


def test_each_entry_of_hosts_has_its_reason():
    source = inspect.getsource(hosts)
    for name in hosts.__all__:
        thing = getattr(hosts, name)
        # Names that are merely imported have comments.
        text = source if thing.__module__ != hosts.__name__ else thing.__doc__
        assert "Reason: " in text and "Waits for: " in text, name


def test_hosts_loads_neither_torch_nor_braindecode():
    """Corpora use it, and work without both."""
    top = [
        name
        for node in TREES[Path(hosts.__file__)].body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or node.names[0].name]
    ]
    assert not [name for name in top if name.split(".")[0] in ("torch", "braindecode")]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from moabb.datasets._channel_pick import pick", "_channel_pick"),
        ("from moabb.evaluations.base import _evaluate_fold", "_evaluate_fold"),
        ("import sklearn.model_selection._split", "_split"),
        ("raw._data[:] = 0", "_data"),
        ("self._selected_sessions", "_selected_sessions"),
        ("getattr(dataset, '_selected_sessions', None)", "_selected_sessions"),
        ("import_module('sklearn.model_selection._split')", "_split"),
    ],
)
def test_planted_access_is_found(code, name):
    tree = ast.parse(code)
    found = [
        *find_imports(tree),
        *find_strings(tree),
        *find_attributes(tree, OWN_NAMES),
    ]
    assert len(found) == 1 and name in found[0][1]


def test_planted_override_is_found():
    code = """
class Planted(BaseParadigm):
    def _get_events_pipeline(self, dataset):
        return None
"""
    module = ModuleType("planted")
    exec(code, vars(module) | {"BaseParadigm": BaseParadigm}, vars(module))
    ((_, name),) = find_overrides(module, ast.parse(code))
    assert name.endswith("BaseParadigm._get_events_pipeline")
