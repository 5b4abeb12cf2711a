"""Pipelines from YAML files in MOABB's format, including those of the package."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml
from moabb.pipelines.utils import create_pipeline_from_config
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline, make_pipeline

from braindecode_emossl.paradigms import Emotion

__all__ = [
    "are_entropy",
    "check_needs",
    "describe_unmet_need",
    "list_files",
    "load_pipelines",
    "pipelines_folder",
]

PARADIGM = "Emotion"
_SUFFIXES = {".yml", ".yaml"}
# Keys of a step of a pipeline, and whether they are needed.
_STEP_KEYS = {"name": True, "from": True, "parameters": False}


def pipelines_folder(features=None):
    """Return the folder of the YAML pipelines that ship with the package.

    Parameters
    ----------
    features : None, "de" or "released:de..."
        Kind of windows that the pipelines take: signals, or differential entropy as of
        ``Emotion(features="de")`` or of the makers' files, ``"released:de_LDS"``.

    Returns
    -------
    Path
        A folder for ``python -m moabb.run -p`` or :func:`load_pipelines`.

    Raises
    ------
    ValueError
        If no pipelines ship for ``features``.
    """
    folder = Path(__file__).parents[1] / "pipelines"
    if features is None:
        return folder
    if not are_entropy(features):
        raise ValueError(
            'Pipelines ship for signals (features=None) and for features="de", but '
            f"got features={features!r}: name a folder of your own."
        )
    return folder / "de"


def are_entropy(features) -> bool:
    """Return whether features are differential entropy, computed or released."""
    return isinstance(features, str) and (
        features == "de" or features.startswith("released:de")
    )


def load_pipelines(path, *, device=None, keep_sfreq=True):
    """Read pipelines for the paradigm Emotion from YAML files in MOABB's format.

    A pipeline file is code: it imports the modules and calls the classes that it names.
    Load only files that you trust. Files for other paradigms are left out before
    anything is imported.

    What a pipeline needs of the paradigm is declared by a key ``paradigm`` of the file,
    which MOABB ignores: arguments of :class:`~braindecode_emossl.paradigms.Emotion`,
    such as ``{window: 1.0, features: null}``. It is the attribute
    ``requires_paradigm`` of the pipeline, and :func:`evaluate` refuses a paradigm with
    other values. ``features: de`` is also met by features of the makers such as
    ``"released:de_LDS"``.

    Parameters
    ----------
    path : str or Path
        A YAML file, or a folder of files that end in ``.yml`` or ``.yaml``, in upper or
        lower case. As in MOABB, subfolders are not searched: pass each separately.
    device : str or None
        Device that networks are trained on, such as ``"cuda"``. None keeps that of the
        files.
    keep_sfreq : bool
        Whether the sampling rates in the files are kept, as stock evaluations of MOABB
        need them. If False, parameters ``sfreq`` are set to None at any depth, so that
        :func:`evaluate` sets them to the rate of the windows.

    Returns
    -------
    pipelines : dict of str to estimator
        Pipelines by name, in the order of the names of the files.
    param_grid : dict of str to dict
        Hyper-parameters to search, by name of the pipeline.

    Raises
    ------
    FileNotFoundError
        If the path does not exist, or holds no pipeline for the paradigm Emotion.
    ValueError
        If a file is malformed, or names something that cannot be imported or called;
        the message names the file and the key. If two pipelines have the same name.

    Examples
    --------
    >>> pipelines, param_grid = load_pipelines(pipelines_folder("de"))
    >>> results = evaluate(
    ...     pipelines,
    ...     [SEED()],
    ...     Emotion(features="de"),
    ...     "leave-one-subject-out",
    ...     param_grid=param_grid,
    ... )
    """
    path = Path(path).expanduser()
    pipelines: dict[str, BaseEstimator] = {}
    grids: dict[str, Any] = {}
    others: set[str] = set()
    for file in list_files(path):
        config = _read(file)
        if PARADIGM not in config["paradigms"]:
            others |= set(config["paradigms"])
            continue
        name = config["name"]
        if name in pipelines:
            raise ValueError(f"Two pipelines in {path} are named {name!r}.")
        pipelines[name] = _set_all(
            _build(file, config["pipeline"]),
            **({} if device is None else {"device": device}),
            **({} if keep_sfreq else {"sfreq": None}),
        )
        pipelines[name].requires_paradigm = _read_needs(file, config)
        if "param_grid" in config:
            _check_grid(file, pipelines[name], config["param_grid"])
            grids[name] = config["param_grid"]
    if not pipelines:
        found = f", only of {sorted(others)}" if others else ""
        raise FileNotFoundError(
            f"No .yml or .yaml pipeline of the paradigm {PARADIGM} was found at "
            f"{path.absolute()}{found}.{_hint_at_subfolders(path)}"
        )
    return pipelines, grids


def list_files(path: Path) -> list[Path]:
    """Return a file itself, or the YAML files in a folder.

    Parameters
    ----------
    path : Path
        A file or a folder.

    Returns
    -------
    list of Path
        The files, sorted by name.

    Raises
    ------
    FileNotFoundError
        If the path does not exist.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"There is no pipeline file or folder {path}.")
    return sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in _SUFFIXES and file.is_file()
    )


def _hint_at_subfolders(path: Path) -> str:
    """Return a sentence on subfolders with pipelines, which are not searched."""
    subfolders = filter(Path.is_dir, path.iterdir()) if path.is_dir() else ()
    if names := sorted(folder.name for folder in subfolders if list_files(folder)):
        return f" Subfolders are not searched: pass one of {', '.join(names)}."
    return ""


# -- needs ---------------------------------------------------------------------


def _read_needs(file: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a pipeline needs, as the paradigm keeps them."""
    needs = config.get("paradigm", {})
    if not isinstance(needs, Mapping):
        _refuse(file, "paradigm", f"a mapping of arguments of {PARADIGM}", needs)
    try:
        wanted = Emotion(**needs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"paradigm in {file} must hold arguments of {PARADIGM}: {error}"
        ) from error
    return {argument: getattr(wanted, argument) for argument in needs}


def check_pipelines(pipelines) -> None:
    """Raise unless pipelines are a dict of at least one classifier by name."""
    if not isinstance(pipelines, Mapping) or not pipelines:
        raise ValueError(
            "pipelines must be a dict of at least one classifier by name, but got "
            f"{pipelines!r}."
        )
    for name, pipeline in pipelines.items():
        # A stack has no predict before it is fitted.
        can_predict = isinstance(pipeline, BaseEstimator) and (
            hasattr(pipeline, "predict") or is_classifier(pipeline)
        )
        if not can_predict or is_regressor(pipeline):
            raise ValueError(
                f"The pipeline {name!r} must be a scikit-learn classifier, but got "
                f"{pipeline!r}."
            )


def check_needs(pipelines: Mapping[str, BaseEstimator], paradigm: Emotion) -> None:
    """Refuse a paradigm that is not as a pipeline needs it."""
    for name, pipeline in pipelines.items():
        if need := describe_unmet_need(name, pipeline, paradigm):
            raise ValueError(need)


def describe_unmet_need(
    name: str, pipeline: BaseEstimator, paradigm: Emotion, options: Container[str] = ()
) -> str:
    """Return a sentence on an argument that a pipeline needs to be another, or "".

    ``options`` are the arguments that the command line has.
    """
    for argument, wanted in getattr(pipeline, "requires_paradigm", {}).items():
        given = getattr(paradigm, argument)
        released = argument == "features" and wanted == "de" and are_entropy(given)
        if given == wanted or released:
            continue
        remedy = f"Emotion({argument}={wanted!r})"
        if argument in options:
            option = f"--{argument.replace('_', '-')}"
            remedy = f"no {option}" if wanted is None else f"{option} {wanted}"
        return (
            f"The pipeline {name!r} needs {argument}={wanted!r} of the paradigm, but "
            f"it is {given!r}: pass {remedy}."
        )
    return ""


# -- reading -------------------------------------------------------------------


def _read(file: Path) -> dict[str, Any]:
    """Return the content of a file, without importing what it names."""
    try:
        config = yaml.safe_load(file.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} must be text in UTF-8, but byte {error.start} is not: save it as "
            "UTF-8."
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(
            f"{file} is not a YAML document: {_describe_fault(error)}."
        ) from error
    if not isinstance(config, dict):
        raise ValueError(
            f"{file} must be a mapping with the keys name, paradigms and pipeline, but "
            f"is {config!r:.80}."
        )
    if not _is_list_of(str, paradigms := _get(file, config, "paradigms")):
        _refuse(file, "paradigms", f"a list of names, such as [{PARADIGM}]", paradigms)
    if PARADIGM in paradigms:
        name = _get(file, config, "name")
        if not isinstance(name, str) or not name.strip():
            _refuse(file, "name", "text; write it in quotes", name)
        steps = _get(file, config, "pipeline")
        if not _is_list_of(dict, steps):
            _refuse(file, "pipeline", "a list of steps with name and from", steps)
        for number, step in enumerate(steps, start=1):
            _check_step(file, f"step {number} of pipeline", step)
    return config


def _describe_fault(error: yaml.YAMLError) -> str:
    """Return the fault of a YAML document and its place."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f" in line {mark.line + 1}"
    return ", ".join(filter(None, (error.context, error.problem))) + where


def _check_step(file: Path, where: str, step: dict) -> None:
    for key, needed in _STEP_KEYS.items():
        if not needed and key not in step:
            continue
        value = _get(file, step, key, f" of {where}")
        if needed and not isinstance(value, str):
            _refuse(file, f"{key} of {where}", "text", value)
        if not needed and not isinstance(value, Mapping):
            _refuse(
                file, f"{key} of {where}", "a mapping of arguments to values", value
            )
    if unknown := [key for key in step if key not in _STEP_KEYS]:
        raise ValueError(
            f"The keys of {where} in {file} must be among {[*_STEP_KEYS]}, but there "
            f"is {unknown[0]!r}."
        )


def _get(file: Path, config: dict, key: str, where: str = ""):
    if key not in config:
        raise ValueError(f"{file} lacks the key {key}{where}.")
    return config[key]


def _is_list_of(kind: type, value) -> bool:
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(isinstance(item, kind) for item in value)


def _refuse(file: Path, key: str, wanted: str, value) -> NoReturn:
    raise ValueError(f"{key} in {file} must be {wanted}, but got {value!r:.80}.")


# -- building ------------------------------------------------------------------


def _build(file: Path, steps: list[dict]) -> Pipeline:
    """Import and call what a file names."""
    made = []
    for number, step in enumerate(steps, start=1):
        where = f"step {number} of pipeline in {file}"
        try:
            made += [part for _, part in create_pipeline_from_config([step]).steps]
        except ImportError as error:
            raise ValueError(
                f"The module {step['from']!r}, named by {where}, cannot be imported: "
                f"{error}."
            ) from error
        except Exception as error:  # of a constructor, whatever it raises
            raise ValueError(
                f"{step['from']}.{step['name']}, named by {where}, cannot be called: "
                f"{error}."
            ) from error
    return make_pipeline(*made)


def _set_all(pipeline: BaseEstimator, **values) -> BaseEstimator:
    """Set parameters of these names, at any depth."""
    found = {
        key: values[name]
        for key in pipeline.get_params()
        if (name := key.rpartition("__")[2]) in values
    }
    return pipeline.set_params(**found)


def _check_grid(file: Path, pipeline: BaseEstimator, grid) -> None:
    """Refuse a grid whose parameters the pipeline does not have."""
    try:
        ParameterGrid(grid)
    except (TypeError, ValueError) as error:
        raise ValueError(f"param_grid in {file} is not a grid: {error}.") from error
    for key, value in _iterate(grid):
        try:
            clone(pipeline).set_params(**{key: value})
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"param_grid in {file} names {key}, which is not a parameter of the "
                "pipeline."
            ) from error


def _iterate(grid) -> Iterator[tuple[str, Any]]:
    """Yield each parameter of a grid with its first value."""
    for part in [grid] if isinstance(grid, Mapping) else grid:
        for key, values in part.items():
            yield key, values[0]
