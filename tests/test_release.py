"""The contents of a release: metadata, files of the packages, and workflows."""

from __future__ import annotations

import ast
import fnmatch
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
SETUPTOOLS = SETTINGS["tool"]["setuptools"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def folder_of(package: str) -> Path:
    """Return the folder with the sources of a package."""
    for name, folder in sorted(SETUPTOOLS["package-dir"].items(), reverse=True):
        if package == name or package.startswith(f"{name}."):
            return ROOT / folder / package.removeprefix(name)[1:].replace(".", "/")
    raise LookupError(package)


# -- packages ------------------------------------------------------------------


def test_every_folder_of_code_is_a_package():
    found = set()
    for name, folder in SETUPTOOLS["package-dir"].items():
        for file in (ROOT / folder).rglob("*.py"):
            inner = file.parent.relative_to(ROOT / folder).parts
            found.add(".".join([name, *inner]))
    # They contain only data; see the comment in pyproject.toml.
    folders = ("", ".all_modalities", ".de")
    data = {f"braindecode_emossl.pipelines{folder}" for folder in folders}
    assert found | data == set(SETUPTOOLS["packages"])


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_other_file_of_a_package_is_installed(package):
    folder = folder_of(package)
    data = SETUPTOOLS["package-data"]
    globs = [*data["*"], *data.get(package, [])]
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        nested = any(
            file.is_relative_to(folder_of(other))
            for other in SETUPTOOLS["packages"]
            if other.startswith(f"{package}.")
        )
        if file.is_dir() or nested or file.suffix in (".py", ".pyc"):
            continue
        assert any(fnmatch.fnmatch(name, pattern) for pattern in globs), name


def test_package_is_typed():
    assert files("braindecode_emossl").joinpath("py.typed").is_file()


# -- versions ------------------------------------------------------------------


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_linters_have_one_version():
    pinned = dict(text.split("==") for text in PROJECT["optional-dependencies"]["lint"])
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    of_hooks = {Path(repo["repo"]).name: repo["rev"] for repo in config["repos"]}
    assert of_hooks["ruff-pre-commit"] == f"v{pinned['ruff']}"
    assert of_hooks["numpydoc"] == f"v{pinned['numpydoc']}"


def test_every_requirement_has_a_lowest_version():
    extras = PROJECT["optional-dependencies"]
    for text in [
        *PROJECT["dependencies"],
        *(text for e in extras.values() for text in e),
    ]:
        ours = text.startswith("braindecode-emossl[")
        assert ours or re.search(r"[>=]=\d", text), text


def test_classifiers_name_the_tested_versions_of_python():
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    tested = jobs["newest"]["strategy"]["matrix"]["python-version"]
    prefix = "Programming Language :: Python :: 3."
    named = [text for text in PROJECT["classifiers"] if text.startswith(prefix)]
    assert [text.rpartition(" ")[2] for text in named] == tested
    assert PROJECT["requires-python"] == f">={tested[0]}"


# -- workflows -----------------------------------------------------------------


def find_sessions() -> set[str]:
    """Return the names of the nox sessions; nox need not be installed."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("nox.session" in ast.unparse(d) for d in node.decorator_list)
    }


def test_workflows_are_found():
    assert [file.stem for file in WORKFLOWS] == ["docs", "release", "tests"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_workflow(file):
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            if "uses" in step:
                assert re.search(r"@(v\d+|release/v\d+)$", step["uses"])
            elif name := re.match(r"nox -s (\w+)( -- .+)?$", step["run"]):
                assert name[1] in find_sessions()
            else:
                assert step["run"] in ("pip install nox", ".ci/run")


def test_a_job_runs_the_tests_that_pytest_leaves_out():
    assert "-m=not slow" in SETTINGS["tool"]["pytest"]["ini_options"]["addopts"]
    jobs = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    steps = [step.get("run") for job in jobs.values() for step in job["steps"]]
    assert "nox -s tests -- -m slow" in steps


def test_nothing_is_published_unless_asked():
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    publish = release["jobs"]["publish"]
    assert publish["if"].startswith("vars.PUBLISH == 'true' && ")
    assert publish["permissions"] == {"id-token": "write"}
