"""Pipelines from MOABB's YAML files, those that ship with the package among them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from moabb.pipelines.utils import parse_pipelines_from_directory
from sklearn.base import BaseEstimator

__all__ = ["load_pipelines", "pipelines_folder"]


def pipelines_folder(features=None):
    """Return the folder of the YAML pipelines that ship with the package.

    Parameters
    ----------
    features : None or "de"
        Form of the windows that they take: signals, or differential entropy as of
        ``Emotion(features="de")``.

    Returns
    -------
    Path
        For ``python -m moabb.run -p`` or :func:`load_pipelines`.
    """
    folder = Path(__file__).parents[1] / "pipelines"
    if features is None:
        return folder
    if features != "de":
        raise ValueError(
            'Pipelines ship for signals (features=None) and for features="de", but '
            f"got features={features!r}: name a folder of your own."
        )
    return folder / "de"


def load_pipelines(path, *, device=None):
    """Read pipelines of the paradigm Emotion from MOABB's YAML files.

    Parameters
    ----------
    path : str or Path
        A ``.yml`` file, or a folder of them.
    device : str or None
        Where networks train, such as ``"cuda"``; None leaves what the files say.

    Returns
    -------
    pipelines : dict of str to estimator
        By name, in the order of the files' names.
    param_grid : dict of str to dict
        Hyper-parameters to search, of those pipelines that name some.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or no pipeline in it.
    ValueError
        If two pipelines have one name.
    """
    path = Path(path).expanduser()
    files = [path] if path.is_file() else sorted(path.glob("*.yml"))
    pipelines, grids = {}, {}
    for file in files:
        (config,) = _parse(file)
        if "Emotion" not in config["paradigms"]:
            continue
        name = config["name"]
        if name in pipelines:
            raise ValueError(f"Two pipelines below {path} are named {name!r}.")
        pipelines[name] = _move(config["pipeline"], device)
        if "param_grid" in config:
            grids[name] = config["param_grid"]
    if not pipelines:
        raise FileNotFoundError(
            f"No .yml pipeline of the paradigm Emotion was found at {path.absolute()}."
        )
    return pipelines, grids


def _parse(file: Path) -> list[dict]:
    # MOABB leaves a lock file beside what it reads.
    with tempfile.TemporaryDirectory() as folder:
        return parse_pipelines_from_directory(shutil.copy(file, folder))


def _move(pipeline: BaseEstimator, device: str | None) -> BaseEstimator:
    if device is not None:
        names = [k for k in pipeline.get_params() if k.rpartition("__")[2] == "device"]
        pipeline.set_params(**dict.fromkeys(names, device))
    return pipeline
