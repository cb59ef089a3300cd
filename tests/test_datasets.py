"""Fetching of data: from the web, by pip and by apt-get, all of it offline."""

import dataclasses
import errno
import hashlib
import http.server
import os
import shutil
import sys
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pooch
import pytest

from experiments.harness.datasets import DatasetError, Source, fetch
from experiments.translation.verses import deb_member

GOOD = b"to be, or not to be\n" * 500


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache; no data folder; no proxy or pip configuration of the user's."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda name: folder / name)
    monkeypatch.delenv("GRU_JAX_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return folder / "gru_jax"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /good whole, /short with half of what it promises, and nothing else."""

    def do_GET(self) -> None:
        found = self.path in ("/good", "/short")
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(GOOD) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(GOOD if self.path == "/good" else GOOD[: len(GOOD) // 2])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def url_source(address: str, content: bytes = GOOD) -> Source:
    return Source("speech.txt", sha256(content), address)


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    """A wheel that pip finds in a local folder."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny_text-1.0-py3-none-any.whl"
    info = "tiny_text-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_text/speech.txt", GOOD)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-text\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Source(path.name, sha256(path.read_bytes()), "tiny-text==1.0")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    """A Debian package that an apt-get of the test's own downloads."""
    content = b"".join(
        name.ljust(48) + str(len(body)).encode().ljust(10) + b"`\n" + body + b"\n" * (len(body) % 2)
        for name, body in ((b"debian-binary", b"2.0"), (b"data.tar.xz", b"the data"))
    )
    content = b"!<arch>\n" + content
    store = tmp_path / "store"
    store.mkdir()
    (store / "small_1_all.deb").write_bytes(content)
    command = store / "apt-get"
    command.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "download small=1" ] || {{ echo "E: Unable" >&2; exit 100; }}\n'
        f"{shutil.which('cp')} {store}/small_1_all.deb .\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(store))
    return Source("small_1_all.deb", hashlib.sha256(content).hexdigest(), "small=1")


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def check_failure(source: Source, cache: Path, *said: str) -> None:
    """Fetching fails with one line that says all this, and the cache stays as it was."""
    before = contents(cache)
    with pytest.raises(DatasetError) as caught:
        fetch(source)
    message = str(caught.value)
    assert "\n" not in message
    for part in (source.file, "GRU_JAX_DATA", *said):
        assert part in message
    assert contents(cache) == before


def test_url_is_fetched_once(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = url_source(f"{server}/good")
    path = fetch(source)
    assert path == cache / "speech.txt"
    assert contents(cache) == {"speech.txt": GOOD}
    monkeypatch.setattr(pooch, "HTTPDownloader", None)  # a second download would fail
    assert fetch(source) == path


def test_wheel_is_fetched_by_pip(
    wheel: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(wheel)
    assert list(contents(cache)) == [wheel.file]
    with zipfile.ZipFile(path) as archive:
        assert archive.read("tiny_text/speech.txt") == GOOD
    monkeypatch.setattr(sys, "executable", "absent")  # a second download would fail
    assert fetch(wheel) == path


def test_a_debian_package_is_fetched_by_apt_get(
    package: Source, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = fetch(package)
    assert path == cache / "small_1_all.deb"
    assert deb_member(path, "data.tar") == b"the data"
    assert list(contents(cache)) == [path.name]
    monkeypatch.setenv("PATH", "")
    assert fetch(package) == path  # from the cache
    path.unlink()
    with pytest.raises(DatasetError, match="there is no apt-get here; put that right"):
        fetch(package)
    monkeypatch.setenv("GRU_JAX_DATA", str(tmp_path / "store"))
    assert fetch(package).parent == tmp_path / "store"


@pytest.mark.parametrize(
    ("path", "said"),
    [("/absent", "HTTP status 404"), ("/short", ""), ("/good", "its sha256 is")],
)
def test_a_bad_answer_of_the_server_is_named(
    server: str, cache: Path, path: str, said: str
) -> None:
    content = b"something else" if path == "/good" else GOOD
    check_failure(url_source(server + path, content), cache, said, server + path)


def test_without_a_network_the_download_fails_in_one_line(cache: Path) -> None:
    # Port 9 (discard) is closed everywhere that matters.
    source = url_source("http://127.0.0.1:9/speech.txt")
    check_failure(source, cache, "the download failed (ConnectionError)", "put that right")


def test_a_wheel_that_pip_does_not_find_is_named(cache: Path) -> None:
    source = Source("tiny_text-1.0-py3-none-any.whl", "", "tiny-text==1.0")
    check_failure(source, cache, "No matching distribution found for tiny-text==1.0")


def test_a_wheel_with_wrong_hash_or_name_is_refused(wheel: Source, cache: Path) -> None:
    check_failure(Source(wheel.file, "0" * 64, wheel.origin), cache, "its sha256 is", "0" * 64)
    other = Source("other-1.0-py3-none-any.whl", wheel.sha256, wheel.origin)
    check_failure(other, cache, "no file of this name")


def test_without_pip_the_download_fails_in_one_line(
    wheel: Source, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=os.name != "nt")
    bare = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    monkeypatch.setattr(sys, "executable", str(bare))
    check_failure(wheel, cache, "No module named pip")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    check_failure(wheel, cache, "No such file")


def test_given_files_need_no_pooch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setenv("GRU_JAX_DATA", str(tmp_path))
    (tmp_path / "speech.txt").write_bytes(GOOD)
    assert fetch(url_source("http://127.0.0.1:9/speech.txt")) == tmp_path / "speech.txt"


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fake_download(body: Callable[[Path], None]) -> Callable[..., object]:
    def downloader(**options: object) -> Callable[[str, str, None], None]:
        return lambda url, path, registry: body(Path(path))

    return downloader


def test_a_full_disk_leaves_the_cache_as_it_was(
    server: str, wheel: Source, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path) -> None:
        path.write_bytes(GOOD[:100])
        full_disk()

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_disk)
        check_failure(url_source(f"{server}/good"), cache, "No space left", str(cache))
        check_failure(wheel, cache, "No space left", str(cache))
    monkeypatch.setattr(pooch, "HTTPDownloader", fake_download(half))
    check_failure(url_source("http://127.0.0.1:9/"), cache, "No space left", str(cache))


def test_a_cache_that_cannot_be_written_is_named(server: str, cache: Path) -> None:
    # A file in the folder's place, since permissions do not stop root.
    cache.parent.write_text("not a folder")
    check_failure(url_source(f"{server}/good"), cache, "Not a directory", str(cache))


def test_truncated_file_in_the_cache_is_fetched_again(server: str, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "speech.txt").write_bytes(GOOD[:100])
    check_failure(url_source(f"{server}/absent"), cache, "HTTP status 404")
    assert fetch(url_source(f"{server}/good")).read_bytes() == GOOD
    assert contents(cache) == {"speech.txt": GOOD}


def test_two_fetches_at_once_both_succeed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = url_source("http://127.0.0.1:9/speech.txt")
    calls = []

    def download(path: Path) -> None:
        calls.append(path)
        path.write_bytes(GOOD[:100])
        if len(calls) == 1:  # another process starts and finishes while this one is half done
            assert fetch(source).read_bytes() == GOOD
        path.write_bytes(GOOD)

    monkeypatch.setattr(pooch, "HTTPDownloader", fake_download(download))
    assert fetch(source).read_bytes() == GOOD
    assert len(set(calls)) == 2
    assert contents(cache) == {"speech.txt": GOOD}


def test_data_folder_wins_over_the_cache(
    server: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = url_source(f"{server}/good")
    cached = fetch(source)
    given = tmp_path / "given"
    given.mkdir()
    monkeypatch.setenv("GRU_JAX_DATA", str(given))
    assert fetch(source) == cached
    (given / source.file).write_bytes(GOOD)
    assert fetch(source) == given / source.file


def test_a_corrupt_file_in_the_data_folder_is_refused_and_kept(
    server: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "speech.txt").write_bytes(GOOD[:100])
    monkeypatch.setenv("GRU_JAX_DATA", str(given))
    where = str(given / "speech.txt")
    check_failure(url_source(f"{server}/good"), cache, where, "its sha256 is", "replace or remove")
    assert contents(given) == {"speech.txt": GOOD[:100]}


@pytest.mark.parametrize(
    ("change", "said"), [({"origin": "big=1"}, "Unable"), ({"sha256": "0"}, "its sha256 is")]
)
def test_a_package_that_cannot_be_had_is_named(
    package: Source, cache: Path, change: dict[str, str], said: str
) -> None:
    check_failure(dataclasses.replace(package, **change), cache, said)
