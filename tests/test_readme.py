"""The pages are true: their code runs, their links lead somewhere, their numbers are recorded.

What a table of speed must say is derived here from the benchmark's record; a failing test shows it.
"""

import inspect
import json
import re
from pathlib import Path

import pytest

import gru_jax
from experiments.benchmark import ours, peers, report

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ".github", "experiments", "gru_jax", "tests"
PAGES = [ROOT / "README.md", *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LIBRARY = (ROOT / "gru_jax" / "README.md").read_text(encoding="utf-8")
BENCHMARK = (ROOT / "experiments" / "benchmark" / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "experiments" / "results"
RECORD = json.loads((RESULTS / "benchmark-default.json").read_text(encoding="utf-8"))
WORKLOADS = RECORD["results"]["workloads"]
MODES = "train", "forward"


def test_readme_is_short():
    """Everything counts: prose, code and tables."""
    assert len(README.split()) <= 900


@pytest.mark.usefixtures("jax_defaults")
def test_example_learns():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    names = {}
    exec(code, names)
    variance = float(names["jnp"].var(names["targets"]))
    assert float(names["value"]) < 0.02 * variance


def test_commands():
    """Two to set up, and one for the API reference."""
    commands = re.findall(r"```sh\n(.*?)```", README, flags=re.S)
    assert [len(command.strip().splitlines()) for command in commands] == [1, 1, 1]
    assert commands[0].rstrip().endswith("-m experiments.shakespeare")
    assert "-m pytest" in commands[1]
    assert "pdoc " in commands[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.M)
            anchors = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
            assert anchor in anchors, target


def test_file_table_is_complete():
    """Every file has its row, and every public name stands in the row of its file."""
    package = Path(gru_jax.__file__).parent
    rows = dict(re.findall(r"^\| `([\w/.]+)` \| (.*)$", LIBRARY, flags=re.M))
    files = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    folders = "convert/", "flax/"
    files = {path for path in files if not path.endswith("__init__.py")}
    assert set(rows) == {path for path in files if not path.startswith(folders)} | set(folders)
    for name, value in vars(gru_jax).items():
        if not name.startswith("_") and not inspect.ismodule(value):
            file = Path(inspect.getsourcefile(value)).relative_to(package)
            assert f"`{name}`" in rows[str(file)], name


def test_every_record_and_figure_is_shown():
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path in RESULTS.iterdir():
        assert f"results/{path.name})" in shown, path.name


def table(title, rows):
    """A table with a column for each workload."""
    lines = [f"| {title} | " + " | ".join(WORKLOADS) + " |", "|---|" + "---|" * len(WORKLOADS)]
    return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows])


def ratios(mode):
    """The time of ours over that of the fastest peer."""
    return {name: modes[mode]["gru_jax"]["ratio"] for name, modes in WORKLOADS.items()}


def relative(variant, mode="train"):
    """The time of a variant over that of the default, where it was timed."""
    return {
        name: modes[mode][variant]["median_ms"] / modes[mode]["gru_jax"]["median_ms"]
        for name, modes in WORKLOADS.items()
        if variant in modes[mode]
    }


def fastest(modes, mode):
    return min(
        (name for name in peers.PEERS if name in modes[mode]), key=lambda n: modes[mode][n]["ratio"]
    )


def compile_ratios():
    for modes in WORKLOADS.values():
        seconds = {name: entry["compile_seconds"] for name, entry in modes["train"].items()}
        yield seconds["gru_jax"] / min(seconds[name] for name in peers.PEERS if seconds.get(name))


def test_speed_in_readme():
    speed_ups = [1 / ratio for ratio in ratios("train").values()]
    span = f"{min(speed_ups):.1f} to {max(speed_ups):.1f} times as fast as the fastest"
    assert f"it trains {span}" in README
    each = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in ratios("train").items())
    assert f"Training takes {each} of the time" in README
    shown = ["gru_jax", *(name for name in peers.PEERS if name != "NumPy")]
    assert report.markdown(WORKLOADS, shown) in README


def shapes():
    lines = ["| workload | T | B | I | H |", "|---|---|---|---|---|"]
    for name, modes in WORKLOADS.items():
        lines.append(f"| {name} | " + " | ".join(map(str, modes["shape"].values())) + " |")
    return "\n".join(lines)


def against_the_fastest():
    def cell(name, mode, ratio):
        return f"{ratio:.2f} ({fastest(WORKLOADS[name], mode)})"

    rows = [(mode, [cell(name, mode, r) for name, r in ratios(mode).items()]) for mode in MODES]
    return table("gru_jax / fastest other", rows)


def variants():
    found = {name: relative(name) for name in ours.OURS if name != "gru_jax"}
    rows = [
        (name, [f"{row[workload]:.2f}" if workload in row else "–" for workload in WORKLOADS])
        for name, row in found.items()
    ]
    return table("training time / default's", rows)


def spread():
    rows = []
    for mode in MODES:
        entries = [modes[mode]["gru_jax"] for modes in WORKLOADS.values()]
        rows.append((mode, [f"{entry['median_ms'] / entry['min_ms']:.2f}" for entry in entries]))
    return table("gru_jax, median / minimum", rows)


def compilation():
    names = ["gru_jax", *peers.PEERS]
    seconds = {
        name: [modes["train"].get(name, {}).get("compile_seconds") for modes in WORKLOADS.values()]
        for name in names
    }
    rows = [(name, [f"{s:.2f}" for s in row]) for name, row in seconds.items() if all(row)]
    return table("seconds to compile the gradient", rows)


def weaknesses():
    """Where ours, or its default, is not the best, as sentences."""

    def listed(values):
        return ", ".join(name for name, value in values.items() if value > 1) or "none"

    def inverse(values):
        return {name: 1 / value for name, value in values.items()}

    precision = {
        name: row["train_bfloat16_ms"] / row["train_float32_ms"]
        for name, row in RECORD["results"]["precision"].items()
    }
    compile_times = [*compile_ratios()]
    slower = {
        "Forward alone, it is slower than the fastest other implementation on": ratios("forward"),
        '`save="states"` trains faster than the default on': inverse(relative("gru_jax states")),
        "One CPU device per core trains slower than one device on": relative("gru_jax devices"),
        "bfloat16 trains slower than float32 on": precision,
    }
    for sentence, values in slower.items():
        yield f"{sentence}: {listed(values)}."
    yield (
        f"The gradient takes {min(compile_times):.1f} to {max(compile_times):.1f} times as long to "
        "compile as that of the fastest-compiling library."
    )


EXPECTED = {
    "shapes": shapes(),
    "times": report.markdown(WORKLOADS, [*ours.OURS, *peers.PEERS]),
    "against the fastest": against_the_fastest(),
    "variants": variants(),
    "spread": spread(),
    "compilation": compilation(),
    "memory": report.markdown_memory(RECORD["results"]["memory"]),
    "precision": report.markdown_precision(RECORD["results"]["precision"]),
    "weaknesses": "\n".join(f"- {sentence}" for sentence in weaknesses()),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_benchmark_page_shows_the_record(name):
    assert EXPECTED[name] in BENCHMARK, f"expected:\n{EXPECTED[name]}"


def test_benchmark_page_names_its_environment():
    environment = RECORD["environment"]
    (line,) = [line for line in BENCHMARK.splitlines() if "results/benchmark-default.json)" in line]
    for value in (environment["date"][:10], environment["machine"], f"JAX {environment['jax']}"):
        assert value in line
