"""Downloads of FACED: from a local server, and through the command line."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import moabb.datasets.download
import nemar
import pytest
from typer.testing import CliRunner

from braindecode_emossl import downloads
from braindecode_emossl.cli import app
from braindecode_emossl.datasets import FACED, faced, write_replica
from braindecode_emossl.downloads import download_missing
from braindecode_emossl.errors import CorpusNotFoundError

DATASET, VERSION = "nm000112", "v1.0.1"


@pytest.fixture(scope="module")
def deposit(tmp_path_factory):
    """The files of subjects 37 and 38. Not to be changed."""
    folder = tmp_path_factory.mktemp("deposit")
    write_replica("FACED", folder, subjects=[37, 38], seconds=1, seed=0)
    # The client compares it before it resumes. A replica lacks it, so that nothing can
    # be downloaded into one.
    identity = {"DatasetDOI": f"10.82901/nemar.{DATASET}", "Version": VERSION[1:]}
    description = folder / DATASET / "dataset_description.json"
    description.write_text(json.dumps({"Name": "FACED"} | identity))
    return folder / DATASET


# -- a local server ------------------------------------------------------------


class Provider(http.server.BaseHTTPRequestHandler):
    """Answer as the provider does: index, manifest, and ranges of files."""

    protocol_version = "HTTP/1.1"
    root: Path
    log: list
    cut: set  # paths whose next answer breaks off half-way
    broken: set  # paths that are not answered at all

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.removeprefix(f"/{DATASET}/")
        self.log.append((path, self.headers.get("Range")))
        if path == "":
            manifest = f"/{DATASET}/{VERSION}/manifest.json"
            versions = [{"version": VERSION, "manifest_url": manifest}]
            self._send_json(
                {"dataset_id": DATASET, "latest": VERSION, "versions": versions}
            )
        elif path == f"{VERSION}/manifest.json":
            self._send_json({"files": [self._describe(f) for f in self._files()]})
        elif path in self.broken:
            self._send(b"", 404)
        else:
            self._send_file(path)

    def _files(self):
        return sorted(f for f in self.root.rglob("*") if f.is_file())

    def _describe(self, file):
        path = str(file.relative_to(self.root))
        content = file.read_bytes()
        return {
            "path": path,
            "size": len(content),
            "url": f"/{DATASET}/{path}",
            "checksum_algorithm": "sha256",
            "checksum": hashlib.sha256(content).hexdigest(),
        }

    def _send_json(self, content):
        self._send(json.dumps(content).encode())

    def _send_file(self, path):
        content = (self.root / path).read_bytes()
        if "Range" not in self.headers:
            n_sent = len(content)
            if path in self.cut:
                self.cut.remove(path)
                n_sent //= 2
            self._send(content, n_sent=n_sent)
            return
        start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(content[start:], 206, {"Content-Range": span})

    def _send(self, content, status=200, headers=(), n_sent=None):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:n_sent])
        if n_sent is not None and n_sent < len(content):
            self.close_connection = True


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of the local server")
    folder = tmp_path_factory.mktemp("certificate")
    names = [str(folder / name) for name in ("server.pem", "key.pem")]
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-out", names[0]]
    subprocess.run(
        [*command.split(), *more, "-keyout", names[1]], check=True, capture_output=True
    )
    return names


@pytest.fixture
def provider(deposit, certificate, monkeypatch):
    """Serve the deposit on the loopback, and point the client of MOABB at it."""
    attributes = {"root": deposit, "log": [], "cut": set(), "broken": set()}
    handler = type("Handler", (Provider,), attributes)
    server = http.server.ThreadingHTTPServer(("localhost", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    where = {
        "data_url": f"https://localhost:{server.server_port}/",
        "max_retries": 1,
    }
    client = functools.partial(nemar.NEMARClient, **where)
    monkeypatch.setattr(faced, "NEMARClient", client)
    fetch = functools.partial(faced.nemar_dl, downloader="python", **where)
    monkeypatch.setattr(faced, "nemar_dl", fetch)
    yield handler
    server.shutdown()
    server.server_close()


def recordings(log):
    return [(path[:7], asked) for path, asked in log if path.endswith(".bdf")]


def test_a_subject_is_fetched_and_read(provider, deposit, tmp_path):
    dataset = FACED([37], path=tmp_path / "data")
    size = sum(f.stat().st_size for f in (deposit / "sub-036").rglob("*.*"))
    assert dataset.download_size([37]) == size
    dataset.download(subject_list=[37])
    expected = FACED([37], path=deposit).get_data()[37]["0"]["05"]
    n_requests = len(provider.log)
    found = dataset.get_data()[37]["0"]["05"]
    assert len(provider.log) == n_requests  # loading needs no network
    assert (found.get_data() == expected.get_data()).all()
    assert recordings(provider.log) == [("sub-036", None)]


def test_a_connection_that_breaks_resumes_where_it_broke(provider, deposit, tmp_path):
    (file,) = (deposit / "sub-036").rglob("*.bdf")
    provider.cut.add(str(file.relative_to(deposit)))
    (found,) = FACED([37], path=tmp_path).data_path(37)
    assert Path(found).read_bytes() == file.read_bytes()
    half = file.stat().st_size // 2
    assert recordings(provider.log) == [
        ("sub-036", None),
        ("sub-036", f"bytes={half}-"),
    ]


def test_a_download_that_failed_resumes_with_what_is_missing(
    provider, deposit, tmp_path, capsys
):
    (file,) = (deposit / "sub-037").rglob("*.bdf")
    name = str(file.relative_to(deposit))
    provider.broken.add(name)
    dataset = FACED([37, 38], path=tmp_path)
    with pytest.raises(CorpusNotFoundError, match="subject 38 could not be downloaded"):
        download_missing([dataset], yes=True)
    assert "Downloading subject 38 (2 of 2)" in capsys.readouterr().err
    provider.broken.clear()
    provider.log.clear()
    download_missing([dataset], yes=True)
    assert recordings(provider.log) == [("sub-037", None)]
    assert "1 of 2 subjects are not in" in capsys.readouterr().err
    provider.log.clear()
    download_missing([dataset], yes=True)
    assert provider.log == []


def test_without_a_network_the_error_says_so(tmp_path, monkeypatch):
    client = functools.partial(
        nemar.NEMARClient, data_url="https://localhost:9/", max_retries=0
    )
    monkeypatch.setattr(faced, "NEMARClient", client)
    with pytest.raises(CorpusNotFoundError, match="the provider cannot be asked"):
        FACED(path=tmp_path).download_size([1])


# -- the command line ----------------------------------------------------------


@pytest.fixture
def run(monkeypatch, deposit):
    """Run a command, with the client of MOABB replaced by a copy of the deposit."""

    def download(*, dataset, target_dir, subject, trust_existing):
        print("a message of the client")
        source = deposit / f"sub-{subject}"
        shutil.copytree(source, Path(target_dir, source.name), dirs_exist_ok=True)

    monkeypatch.setattr(moabb.datasets.download.nemar, "download", download)
    monkeypatch.setattr(FACED, "download_size", lambda self, missing: 25 * 10**7)
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments, **how: CliRunner().invoke(app, list(arguments), **how)


@pytest.fixture
def arguments(tmp_path):
    """An evaluation that takes seconds."""
    from braindecode_emossl.evaluation import pipelines_folder

    pipeline = shutil.copy(pipelines_folder("de") / "de_logreg.yml", tmp_path)
    settings = "--subjects 37,38 --features de --window 1 --no-baselines".split()
    settings += ["--pipelines", str(pipeline), "--results", str(tmp_path / "results")]
    return ("evaluate", f"FACED={tmp_path / 'data'}", *settings)


def test_the_size_is_said_before_anything_is_downloaded(run, arguments, tmp_path):
    result = run(*arguments)
    assert result.exit_code == 2
    assert f"2 of 2 subjects are not in {tmp_path / 'data'}" in result.stderr
    assert "They take 250.0 MB. Pass --yes to download them." in result.stderr
    assert not (tmp_path / "data").exists()


def test_with_yes_the_evaluation_follows(run, arguments):
    result = run(*arguments, "--yes", "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)  # no message of the client in between
    assert {row["subject"] for row in rows} == {"37", "38"}
    assert "Downloading subject 37 (1 of 2)" in result.stderr
    assert "a message of the client" in result.stderr
    again = run(*arguments, "--json")
    assert again.exit_code == 0 and "Downloading" not in again.stderr


@pytest.mark.parametrize("answer, n_subjects", [("y", 2), ("n", 0)])
def test_the_user_is_asked(answer, n_subjects, run, tmp_path, monkeypatch):
    dataset = FACED([37, 38], path=tmp_path)
    monkeypatch.setattr(downloads.sys.stdin, "isatty", lambda: True, raising=False)
    questions = []

    def confirm(text, err):
        questions.append(text)
        return answer == "y"

    monkeypatch.setattr(downloads.typer, "confirm", confirm)
    if answer == "y":
        download_missing([dataset], yes=False)
    else:
        with pytest.raises(ValueError, match="Nothing was downloaded"):
            download_missing([dataset], yes=False)
    assert questions[0].endswith("They take 250.0 MB. Download them?")
    assert len(list(tmp_path.rglob("*.bdf"))) == n_subjects


def test_a_disk_that_is_too_small_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr(FACED, "download_size", lambda self, missing: 10**18)
    with pytest.raises(ValueError, match=r"1000000000\.0 GB\. Only .* are free there"):
        download_missing([FACED([1], path=tmp_path)], yes=True)
