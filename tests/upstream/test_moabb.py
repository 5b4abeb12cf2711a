"""MOABB's own tests of its datasets, run on ours."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from braindecode_emossl.registration import DATASETS

MODULES = ["moabb.tests.test_datasets", "moabb.tests.test_doi_validation"]

# What cannot pass here, and why.
KNOWN_FAILURES = {
    "test_all_datasets_have_valid_nemar_id": "NEMAR mirrors open data, not ours",
    "test_dois_resolve": "it asks a resolver on the network",
}


@pytest.mark.slow
def test_moabb_finds_our_datasets_as_good_as_its_own(tmp_path):
    selected = " or ".join(
        [
            *(f"[{cls.__name__}]" for cls in DATASETS),
            "test_dataset_list",
            "test_datasets_init",
        ]
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "braindecode_emossl"]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--pyargs", *MODULES, "-k", selected],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    failed = re.findall(r"^(?:FAILED|ERROR) \S*?(test_\w+)\S*", result.stdout, re.M)
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed and int(passed[1]) >= 10 * len(DATASETS), result.stdout[-3000:]
    # A machine with a network resolves the DOIs.
    assert set(failed) <= set(KNOWN_FAILURES), result.stdout[-3000:]
