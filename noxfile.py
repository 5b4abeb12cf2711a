"""The checks that a change must pass; ``nox --list`` lists the sessions."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "typing", "tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
EXTRAS = PROJECT["optional-dependencies"]
OLDEST_PYTHON = PROJECT["requires-python"].removeprefix(">=")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and docstrings."""
    session.install(*EXTRAS["lint"])
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    sources = ("git", "ls-files", "*.py", ":!tests", ":!benchmarks", ":!examples")
    files = session.run(*sources, external=True, silent=True)
    session.run("numpydoc", "lint", *files.split())


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of the installed package."""
    # mypy finds the folders at the top of the repository only after installation.
    shutil.rmtree("build", ignore_errors=True)  # it may contain deleted files
    session.install(".[typing]")
    session.chdir(session.create_tmp())  # away from the sources
    config = f"--config-file={ROOT / 'pyproject.toml'}"
    session.run("mypy", config, "--package", "braindecode_emossl")


@nox.session
def tests(session: nox.Session) -> None:
    """Test with the newest versions that pyproject.toml allows."""
    session.install("--upgrade", "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=OLDEST_PYTHON)
def minimum(session: nox.Session) -> None:
    """Test with the lowest versions that pyproject.toml allows."""
    constraints = Path(session.create_tmp(), "constraints.txt").resolve()
    constraints.write_text("\n".join(_lowest_versions()))
    session.install("-e", ".[test]", "--constraint", str(constraints))
    session.run("pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; ``-- -D plot_gallery=0`` does not run the gallery."""
    session.install("-e", ".[docs]")
    session.run(
        *("sphinx-build", "-W", "--keep-going", *session.posargs),
        *("docs", "docs/_build/html"),
    )


@nox.session
def build(session: nox.Session) -> None:
    """Build the distributions into dist, and run the demo from the wheel."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    files = [str(file.resolve()) for file in Path("dist").iterdir()]
    session.run("twine", "check", "--strict", *files)
    session.install(*(file for file in files if file.endswith(".whl")))
    session.chdir(session.create_tmp())
    session.run("emossl", "demo")


def _lowest_versions() -> list[str]:
    """Return a constraint for each requirement with a lower bound."""
    texts = [*PROJECT["dependencies"], *EXTRAS["distributed"]]
    texts += [*EXTRAS["spreadsheets"], *EXTRAS["test"]]
    bounds = (re.match(r"([\w-]+)(?:\[.*\])?>=([\w.]+)", text) for text in texts)
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]
