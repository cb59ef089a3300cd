"""A Bible in English and in Spanish, out of Debian packages that are read as archives."""

import io
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from experiments.harness.datasets import DatasetError, Source, fetch

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
SOURCES = (_ENGLISH, _SPANISH)


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
    with tarfile.open(fileobj=io.BytesIO(deb_member(fetch(source), "data.tar"))) as tar:
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


def deb_member(path: Path, name: str) -> bytes:
    """A member of a Debian package, an `ar` archive: heads of 60 bytes, contents of even size."""
    content = path.read_bytes()
    place = len(b"!<arch>\n")
    while place < len(content):
        size = int(content[place + 48 : place + 58])
        if content[place : place + 16].decode("ascii").startswith(name):
            return content[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise DatasetError(f"{path} has no {name}, but every Debian package should")
