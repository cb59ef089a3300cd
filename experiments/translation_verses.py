"""A Bible in English and in Spanish, out of Debian packages that are read as archives."""

import io
import os
import re
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from experiments import datasets
from experiments.datasets import DatasetError, Source, fetch

_ENGLISH = Source(
    "sword-text-kjv_14.3-1_all.deb",
    "9f463f28ce665f6f528fc723179722bced880a4c5485f7a41bf742838315de57",
    "sword-text-kjv=14.3-1",
)
_SPANISH = Source(
    "sword-text-sparv_2.60-1_all.deb",
    "5c87f9b2bc97457e8a872f5bae7ea7ce59cb3de1dcee73e4d4740451863694cf",
    "sword-text-sparv=2.60-1",
)


def aligned_verses() -> Iterator[tuple[int, str, str]]:
    """All verses that have a text in both languages: the book's number 1..66, and the texts."""
    for verse, other in zip(_read_module(_ENGLISH), _read_module(_SPANISH), strict=True):
        if verse[1] and other[1]:
            yield verse[0], verse[1], other[1]


def _read_module(source: Source) -> list[tuple[int, str]]:
    """Reads a SWORD module of type zText in which a block is a book: `(book, text)` per verse.

    `.bzs` has for each block its place and size in `.bzz`, `.bzv` for each verse its block, and
    place and size there. Titles of testaments, books and chapters count as verses, without text.
    """
    with tarfile.open(fileobj=io.BytesIO(_deb_member(fetch_deb(source), "data.tar"))) as tar:
        files = {
            Path(member.name).name: opened.read()
            for member in tar
            if (opened := tar.extractfile(member)) is not None
        }
    found = []
    for testament, books_before in (("ot", 0), ("nt", 39)):
        packed = files[f"{testament}.bzz"]
        blocks = [
            zlib.decompress(packed[place : place + size])
            for place, size, _ in struct.iter_unpack("<III", files[f"{testament}.bzs"])
        ]
        for block, place, size in struct.iter_unpack("<IIH", files[f"{testament}.bzv"]):
            text = blocks[block][place : place + size].decode("utf-8")
            found.append((books_before + block, plain_text(text)))
    return found


def plain_text(osis: str) -> str:
    """A verse without notes, titles, marks of paragraphs, and markup."""
    text = re.sub(r"<(note|title)\b[^>]*?(?<!/)>.*?</\1>", " ", osis, flags=re.S)
    text = re.sub(r"<[^>]*>|¶|\\nd\b", "", text)  # the last is USFM's, left over in 51 places
    return " ".join(text.split())


def fetch_deb(source: Source) -> Path:
    """As `datasets.fetch`, for a Debian package `name=version`, by the user's own apt-get."""
    given = os.environ.get("GRU_JAX_DATA")
    if given and Path(given, source.file).is_file():
        return fetch(source)

    import pooch

    cache = Path(pooch.os_cache("gru_jax"))
    path = cache / source.file
    try:
        if path.is_file() and datasets._sha256(path) == source.sha256:
            return path
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=cache) as part:
            _download_deb(source.origin, Path(part))
            datasets._check(Path(part, source.file), source)
            os.replace(Path(part, source.file), path)
        return path
    except (DatasetError, OSError) as error:
        raise DatasetError(
            f"{source.file} could not be fetched by apt-get into {cache}: "
            f"{datasets._reason(error)}; put that right (apt-get update?), or set "
            f"GRU_JAX_DATA to a folder that holds {source.file}"
        ) from error


def _download_deb(package: str, folder: Path) -> None:
    try:
        done = subprocess.run(
            ["apt-get", "download", package],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise DatasetError("there is no apt-get here") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        reason = lines[-1].removeprefix("E:").strip() if lines else f"status {done.returncode}"
        raise DatasetError(f"apt-get download failed ({reason})")


def _deb_member(path: Path, name: str) -> bytes:
    """A member of a Debian package, an `ar` archive: heads of 60 bytes, contents of even size."""
    content = path.read_bytes()
    place = len(b"!<arch>\n")
    while place < len(content):
        size = int(content[place + 48 : place + 58])
        if content[place : place + 16].decode("ascii").startswith(name):
            return content[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise DatasetError(f"{path} has no {name}, but every Debian package should")
