"""The processor that numbers are measured on: its model and its instruction sets."""

import re
import subprocess
from pathlib import Path

SETS = {
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme"),
}
"""Instruction sets that decide how fast matrix products are, by Linux' names."""


def processor() -> dict[str, str]:
    """The processor's model and those of `SETS` that it has, "unknown" where nobody says.

    Linux writes them to /proc/cpuinfo (on ARM without the model's name), macOS tells them by
    sysctl, where Apple's own processors do not list their sets.
    """
    entries: dict[str, str] = {}
    for line in _description().splitlines():
        name, _, value = line.partition(":")
        entries.setdefault(name.strip(), value.strip())  # of the first of several processors
    model = entries.get("model name") or entries.get("machdep.cpu.brand_string")
    listed = ("flags", "Features", "machdep.cpu.features", "machdep.cpu.leaf7_features")
    words = " ".join(entries.get(name, "") for name in listed).lower()
    words = words.replace("sse4.2", "sse4_2").replace("avx1.0", "avx")  # macOS' names
    found = sorted(SETS & set(words.split()), key=_by_number)
    return {"processor": model or "unknown", "instruction_sets": ", ".join(found) or "unknown"}


def _by_number(name: str) -> list[tuple[str, int]]:
    """Sorts avx before avx2, and that before avx512f."""
    return [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name)]


def _description() -> str:
    """What the operating system says of the processor, a name and a value in every line."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        pass
    try:
        return subprocess.run(["sysctl", "machdep.cpu"], capture_output=True, text=True).stdout
    except OSError:
        return ""
