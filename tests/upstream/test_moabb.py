"""MOABB's own tests of its datasets, run on ours and on replicas."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import moabb
import pytest

from braindecode_emossl.datasets import write_replica
from braindecode_emossl.registration import DATASETS

MODULES = ("test_datasets", "test_doi_validation", "test_download", "test_metadata")

# Tests of all registered datasets at once, beside those of one dataset each.
OF_ALL = (
    "test_dataset_list",
    "test_datasets_init",
    "test_detected_paradigm_matches_experiment",
    "test_class_level_metadata_core_fields_match_dataset",
    "test_metadata_type_consistency",
    "test_all_datasets_have_required_fields",
    "test_catalog_dataset_count",
)

# What cannot pass here, and why.
KNOWN_FAILURES = {
    "test_all_datasets_have_valid_nemar_id": "NEMAR mirrors open data, of ours FACED",
    "test_nemar_download_equivalence": "FACED's deposit has no original files",
    "test_download_dir_change_is_respected": "it watches a download, most have none",
    "test_dois_resolve": "it asks a resolver on the network",
    "test_dataset_has_resolvable_country": "it reads MOABB's docs, not in the wheel",
    "test_all_datasets_have_required_fields": "its list of paradigms is fixed",
    "test_catalog_dataset_count": "it counts MOABB's own datasets",
    "test_metadata_matches_raw_data[SEED_IV]": "eye features are read when asked for",
    "test_metadata_matches_raw_data[SEED_V]": "eye features are read when asked for",
    "test_metadata_matches_raw_data[FACED]": "two of the channels differ by subject",
    "test_constructor_defaults_and_properties[MAHNOB_HCI]": (
        "participants without physiology are not offered"
    ),
}


@pytest.fixture
def environment(tmp_path):
    """The environment in which MOABB finds replicas, and the module its wheel lacks."""
    environment = dict(os.environ)
    for cls in DATASETS:
        root = tmp_path / cls.code_name
        write_replica(cls.code_name, root, subjects=[1], seconds=1, seed=0)
        environment[f"MNE_DATASETS_{cls.path_key}_PATH"] = str(root)
    scripts = tmp_path / "stubs" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "__init__.py").touch()
    (scripts / "generate_macro_table.py").write_text("def _format_cell(*_): ...\n")
    places = [str(scripts.parent), environment.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return environment


@pytest.mark.slow
def test_moabb_finds_our_datasets_as_good_as_its_own(environment, tmp_path):
    names = [f"[{cls.__name__}" + end for cls in DATASETS for end in "]-"]
    folder = Path(moabb.__file__).parent / "tests"
    files = [str(folder / f"{module}.py") for module in MODULES]
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "braindecode_emossl"]
    command += ["-p", "no:cacheprovider", "--dl-data", "-k", " or ".join(OF_ALL)]
    command[-1] += "".join(f" or {name}" for name in names)
    result = subprocess.run(
        [*command, *files],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    failed = re.findall(
        r"^(?:FAILED|ERROR) \S*::(test_[^\s\[]+)(\S*)", result.stdout, re.M
    )
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed and int(passed[1]) >= 12 * len(DATASETS), result.stdout[-3000:]
    # A machine with a network resolves the DOIs.
    unknown = [
        name + case
        for name, case in failed
        if not {name, name + case} & set(KNOWN_FAILURES)
    ]
    assert unknown == [], result.stdout[-3000:]
