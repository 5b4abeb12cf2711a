"""The documentation: complete, without dead links, with code that runs."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import braindecode_emossl
from braindecode_emossl.datasets import write_replica
from braindecode_emossl.pretraining.registry import OBJECTIVES
from braindecode_emossl.registration import DATASETS, MODELS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Folders that a build writes, or that hold no pages.
NO_PAGES = {"_build", "_templates", "generated", "auto_examples"}
PAGES = [ROOT / "README.md"] + [
    page
    for page in sorted(DOCS.rglob("*"))
    if page.suffix in (".md", ".rst") and not NO_PAGES & {*page.parts}
]
LISTED = re.findall(
    r"^   (braindecode_emossl\S+)$", (DOCS / "api.rst").read_text(), re.M
)
# Arguments that are not settings of the method.
NO_SETTINGS = {"encoder", "preset", "random_state"}


def by_name(pages):
    return pytest.mark.parametrize(
        "page", pages, ids=lambda page: str(page.relative_to(ROOT))
    )


# -- completeness ---------------------------------------------------------------


def test_every_public_module_is_in_the_reference():
    public = {
        module.__name__
        for module in map(vars(braindecode_emossl).get, braindecode_emossl.__all__)
        if inspect.ismodule(module)
    }
    assert public and public <= set(LISTED)


def test_every_public_name_is_in_the_reference():
    """The pages of a listed module are made from its ``__all__``."""
    modules = {name: importlib.import_module(name) for name in LISTED}
    known = {name for module in modules.values() for name in module.__all__}
    folders = {name.rpartition(".")[2] for name in modules}
    assert set(braindecode_emossl.__all__) <= known | folders


@pytest.mark.parametrize("corpus", DATASETS)
def test_every_corpus_has_a_page(corpus):
    text = (DOCS / "corpora" / f"{corpus.__name__.lower()}.md").read_text()
    assert f"{{class}}`~braindecode_emossl.datasets.{corpus.__name__}`" in text
    assert f"MNE_DATASETS_{corpus.path_key}_PATH" in text
    assert corpus.access_url in text
    for file in corpus.expected_files:
        assert Path(file).name in text


@pytest.fixture(scope="module")
def corpus_tables():
    pytest.importorskip("sphinx", reason="comes with the extra 'docs'")
    spec = spec_from_file_location("corpora", DOCS / "_ext" / "corpora.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_corpora_come_from_the_classes(corpus_tables):
    release, labels = corpus_tables.describe_release, corpus_tables.describe_labels
    by_name = {cls.__name__: cls for cls in DATASETS}
    seed, faced = release(by_name["SEED"]), release(by_name["FACED"])
    assert seed["channels"] == "62 EEG; 200 Hz"
    assert seed["classes"] == "negative, neutral, positive"
    assert seed["how to get it"] == "a signed licence"
    assert faced["classes"] == "9: anger, disgust, ..."
    assert faced["how to get it"] == "download"
    assert release(by_name["MAHNOB_HCI"])["subjects"] == "27 of 30"
    assert labels(by_name["DEAP"]) == {
        "classes of the": "subject's report",
        "valence": "rating",
        "midpoint": "5",
        "three classes": "3 and 6",
        "band in Hz": "4 to 45",
    }
    assert labels(by_name["FACED"])["three classes"] == "7/3 and 14/3"
    for cls in DATASETS:
        assert all(release(cls).values())
        assert labels(cls)["band in Hz"]


@pytest.mark.parametrize("model", OBJECTIVES)
def test_every_model_has_a_page(model):
    pages = "".join(page.read_text() for page in (DOCS / "models").glob("*.rst"))
    for name in (f"models.{model}", f"pretraining.{OBJECTIVES[model].__name__}"):
        for directive in ("evidence", "autoclass"):
            assert f".. {directive}:: braindecode_emossl.{name}\n" in pages


# -- evidence ------------------------------------------------------------------


@pytest.fixture(scope="module")
def evidence():
    pytest.importorskip("numpydoc", reason="comes with the extra 'docs'")
    pytest.importorskip("sphinx", reason="comes with the extra 'docs'")
    spec = spec_from_file_location("evidence", DOCS / "_ext" / "evidence.py")
    module = module_from_spec(spec)
    sys.modules["evidence"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["evidence"]


@pytest.mark.parametrize("cls", [*MODELS, *OBJECTIVES.values()])
def test_every_default_says_what_it_rests_on(cls, evidence):
    rows = {row.name: row for row in evidence.collect_evidence(cls)}
    untagged = {name for name, row in rows.items() if not row.tags}
    assert untagged <= NO_SETTINGS
    own = {
        name
        for name, argument in inspect.signature(cls.__init__).parameters.items()
        if argument.kind is argument.KEYWORD_ONLY
    }
    assert own <= set(rows)


def test_evidence_is_read_from_the_docstring(evidence):
    class Method:
        """A method.

        Parameters
        ----------
        width : int, default=3
            How wide. [paper] As in
            its figure.
        act : type, default=int
            "a": one [inferred]; "b": another [official code].
        seed : int
            Any.

        Attributes
        ----------
        part : object
            A part. [inferred]
        size : int
            Its size.
        """

        def __init__(self, width=3, act=int, seed=None):
            pass

    described = '"a": one [inferred]; "b": another [official code].'
    row = evidence.Evidence
    assert evidence.collect_evidence(Method) == [
        row("width", "3", ("paper",), "As in its figure."),
        row("act", "nn.int", ("inferred", "official code"), described),
        row("seed", "None", (), "Any."),
        row("part", "", ("inferred",), ""),
    ]


# -- links and code ------------------------------------------------------------


def strip_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.M | re.S)


@by_name([page for page in PAGES if page.suffix == ".md"])
def test_relative_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)", strip_code(page.read_text())):
        # The gallery exists only after a build.
        if ":" not in target and not target.startswith("auto_examples"):
            assert (page.parent / target).is_file(), target


def find_code(page: Path) -> list[str]:
    if page.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)
    blocks = re.findall(
        r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", page.read_text(), re.M
    )
    return [inspect.cleandoc(block) for block in blocks]


@by_name([page for page in PAGES if find_code(page)])
def test_code_of_the_pages_imports_existing_names(page):
    for code in find_code(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("braindec"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def run_code(page: Path, folder: Path) -> dict:
    """Run the Python blocks of a page in order, as one script; return its variables."""
    found: dict = {}
    with contextlib.chdir(folder):
        for number, code in enumerate(find_code(page)):
            exec(compile(code, f"{page.name}, block {number}", "exec"), found)
    return found


@pytest.mark.slow
def test_readme_runs_as_written(tmp_path, capsys):
    found = run_code(ROOT / "README.md", tmp_path)
    assert len(found["results"]) == 3
    assert set(found["results"]["target_access"]) == {"none"}
    assert "score_trial" in capsys.readouterr().out


def test_readme_is_short_and_names_everything():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 120
    for cls in DATASETS:
        assert f"[`{cls.__name__}`](docs/corpora/{cls.__name__.lower()}.md)" in text
    for model in OBJECTIVES:
        assert f"[`{model}`](docs/models/" in text


@pytest.mark.slow
def test_the_tutorial_runs_as_written(tmp_path, capsys):
    """The block that loads a checkpoint could not be fitted, and nobody noticed.

    The classifier did not read ``input_domain`` from the checkpoint.
    """
    folder = tmp_path / "seed-replica"
    write_replica("SEED", folder, subjects=[1, 2, 3], seconds=10, seed=0)
    found = run_code(DOCS / "start.md", tmp_path)
    assert found["probe"].predict(found["X"]).shape == found["y"].shape
    assert found["probe"].net_.module_.input_domain == "de"
    assert found["probe"].n_steps_ > 0
    results = found["results"]  # of the last block
    assert len(results) == 6 * 2 * 2  # pipelines, numbers of labelled trials, seeds
    assert set(results["n_labeled_trials"].dropna()) == {1}
    assert set(results["target_access"]) == {"none"}
    assert (tmp_path / "pretrained" / "trained").is_dir()
    assert "score_trial" in capsys.readouterr().out


def test_readme_holds_the_commands_that_ci_runs():
    lines = (ROOT / "README.md").read_text().splitlines()
    commands = [line for line in lines if line.startswith("pip install ")]
    assert [line.rpartition(" && ")[2] for line in commands] == [
        "emossl demo",
        "pytest",
    ]


# -- the build -----------------------------------------------------------------


@pytest.mark.slow
def test_it_builds_without_a_warning(tmp_path):
    pytest.importorskip("pydata_sphinx_theme", reason="comes with the extra 'docs'")
    pytest.importorskip("sphinx_gallery", reason="comes with the extra 'docs'")
    made = shutil.ignore_patterns("_build", "generated", "auto_examples")
    for folder in ("docs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=made)
    shutil.copy(ROOT / "CHANGELOG.md", tmp_path)
    command = "-m sphinx -q -W --keep-going -D plot_gallery=0 docs html".split()
    result = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-5000:]
    page = (tmp_path / "html" / "models" / "scmm.html").read_text()
    assert "Return the representation of scaled DE." in page
    assert page.count("sd-badge") > 15
