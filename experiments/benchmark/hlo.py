"""How many kernels a compiled program launches and what its devices exchange, read off its text.

On a GPU every fusion, custom call and copy of the schedule is one launch, and those of a loop's
body are launched once per iteration. On a TPU, which runs a program without launches, the same
count is that of the operations which follow one another.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Instruction(NamedTuple):
    """One line of a computation."""

    opcode: str
    result: str
    """Its shape, such as `f32[64,128]{1,0}`."""
    text: str


class Loop(NamedTuple):
    """A loop, or one within loops."""

    iterations: int
    """In one call of the program: the product of the trip counts of all loops around it."""
    launches: int
    """In one iteration, without those of loops within it."""


class Launches(NamedTuple):
    """The launches of one call."""

    outside: int
    loops: tuple[Loop, ...]

    @property
    def total(self) -> int:
        """All of them."""
        return self.outside + sum(loop.iterations * loop.launches for loop in self.loops)


class Collective(NamedTuple):
    """An exchange between devices."""

    opcode: str
    """"all-reduce", "all-gather", "reduce-scatter", "all-to-all" or "collective-permute"."""
    iterations: int
    """How often it runs in one call of the program."""
    bytes: int
    """Of its result on each device."""


FREE = frozenset(
    {
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"),
        *("after-all", "add-dependency", "partition-id", "replica-id"),
        *("while", "conditional", "call", "async-start", "async-update", "async-done"),
    }
)
"""What names a buffer, or stands for the computations that it calls."""
EXCHANGES = frozenset(
    {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"}
)
BUFFERS = ("AllocateBuffer", "Sharding")
"""Custom calls that compute nothing."""


def launches(program: str, assumed: Sequence[int] = ()) -> Launches:
    """The launches of a compiled program.

    Args:
      program: the text of the optimised, scheduled module, as `compiled.as_text()` gives it.
      assumed: the trip counts of the first loops for which XLA prints none, such as those whose own
        depend on the data, in the program's order.

    Raises:
      ValueError: a loop whose trip count is neither known when the program is compiled nor assumed,
        or more assumed ones than loops without.
    """
    computations, entry = _computations(program)
    unused = list(assumed)
    outside, loops = _count(computations, entry, 1, unused)
    if unused:
        raise ValueError(
            f"assumed is {list(assumed)}, but the program has fewer loops without a trip count."
        )
    return Launches(outside, tuple(loops))


def collectives(program: str) -> list[Collective]:
    """The collectives of a compiled program.

    Args:
      program: as for `launches`.

    Raises:
      ValueError: a loop whose trip count is not known when the program is compiled.
    """
    computations, entry = _computations(program)
    return list(_collectives(computations, entry, 1))


def _collectives(
    computations: dict[str, list[Instruction]], name: str, iterations: int
) -> Iterator[Collective]:
    """Those of a computation, and of all that it calls."""
    for instruction in computations[name]:
        opcode, result, text = instruction
        kind = opcode.removesuffix("-start")
        if kind in EXCHANGES:
            yield Collective(kind, iterations, _bytes(kind, opcode, result))
        if opcode == "while":
            trips = iterations * _trip_count(computations, instruction, [])
            yield from _collectives(computations, _attribute(text, "body"), trips)
        elif opcode == "fusion":
            yield from _collectives(computations, _attribute(text, "calls"), iterations)
        for called in _called(instruction):
            yield from _collectives(computations, called, iterations)


def _bytes(kind: str, opcode: str, result: str) -> int:
    sizes = [
        int(bits) // 8 * math.prod(int(n) for n in shape.split(",") if n)
        for bits, shape in re.findall(r"\b[a-z]+(\d+)\[([\d,]*)\]", result)
    ]
    if opcode == kind or kind == "all-reduce":
        return sum(sizes)
    return sizes[1]  # one that starts returns its operand, its result, and what it waits for


def _count(
    computations: dict[str, list[Instruction]], name: str, iterations: int, assumed: list[int]
) -> tuple[int, list[Loop]]:
    """The launches of a computation, and all loops in it; takes what it uses from `assumed`."""
    here, loops = 0, list[Loop]()
    for instruction in computations[name]:
        here += _is_launch(instruction)
        if instruction.opcode == "while":
            trips = iterations * _trip_count(computations, instruction, assumed)
            body = _attribute(instruction.text, "body")
            inside, within = _count(computations, body, trips, assumed)
            loops += [Loop(trips, inside), *within]
        for called in _called(instruction):
            inside, within = _count(computations, called, iterations, assumed)
            here += inside
            loops += within
    return here, loops


def _is_launch(instruction: Instruction) -> bool:
    opcode, result, text = instruction
    if opcode in FREE or opcode.endswith(("-done", "-update")):
        return False
    if opcode == "custom-call":
        return _attribute(text, "custom_call_target") not in BUFFERS
    # Unfused arithmetic of scalars is that of a TPU's scalar unit; a GPU program has none.
    scalar = re.fullmatch(r"\w+\[\](\{.*\})?", result)
    return opcode in ("fusion", "copy") or opcode.endswith("-start") or not scalar


def _called(instruction: Instruction) -> Iterator[str]:
    """The computations that run where an instruction stands, of a conditional its longest list."""
    opcode, _, text = instruction
    if opcode == "call":
        yield _attribute(text, "to_apply")
    elif opcode == "async-start":
        yield _attribute(text, "calls")
    elif opcode == "conditional":
        raise ValueError("the program has a conditional, so that its launches depend on the data.")


def _trip_count(
    computations: dict[str, list[Instruction]], loop: Instruction, assumed: list[int]
) -> int:
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.text)
    if known:
        return int(known[1])
    if assumed:
        return assumed.pop(0)
    # XLA for TPU does not print it. JAX's loops count from 0 to the constant of their condition.
    condition = computations[_attribute(loop.text, "condition")]
    limits = [re.search(r" constant\((\d+)\)", each.text) for each in condition]
    found = [int(limit[1]) for limit in limits if limit]
    if len(found) != 1 or not any("direction=LT" in each.text for each in condition):
        raise ValueError("the program has a loop whose trip count is not known.")
    return found[0]


def _computations(program: str) -> tuple[dict[str, list[Instruction]], str]:
    """The instructions of each computation, and the name of the first one."""
    computations: dict[str, list[Instruction]] = {}
    entry = current = ""
    for line in program.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if header:
            current = header[2]
            computations[current] = []
            entry = current if header[1] else entry
        elif line.startswith("  ") and current:
            computations[current].append(_instruction(line))
        elif line.startswith("}"):
            current = ""
    return computations, entry


def _instruction(line: str) -> Instruction:
    _, _, definition = line.partition(" = ")
    if definition.startswith("("):  # a tuple, in whose shapes there are parentheses, too
        depths = list[int]()
        for character in definition:
            depths.append((depths or [0])[-1] + (character == "(") - (character == ")"))
            if not depths[-1]:
                break
        end = len(depths)
    else:
        end = definition.index(" ")
    result, rest = definition[:end], definition[end:].lstrip()
    return Instruction(rest.partition("(")[0], result, definition)


def _attribute(text: str, name: str) -> str:
    found = re.search(rf'\b{name}=["%]?([\w.\-$]+)', text)
    assert found, f"{name} in {text[:200]}"
    return found[1]
