"""The guides in `experiments/guides` are short, and their code runs with the claims it asserts."""

import os
import re
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "guides"
GUIDES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.md"))}
TOPICS = {
    "frameworks",
    "long_sequences",
    "many_seeds",
    "precision_and_devices",
    "pretrained_models",
    "reinforcement_learning",
    "streaming",
    "variable_lengths",
}
BY_SECTION = {"frameworks", "pretrained_models"}  # each section needs another library
PEERS = {"equinox", "flax", "keras", "onnx", "optax", "safetensors", "torch"}


def blocks(text):
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


def cases():
    """The code of each guide; of some, the code before the first section with each section's."""
    for name, text in GUIDES.items():
        if name not in BY_SECTION:
            yield pytest.param(blocks(text), id=name)
            continue
        introduction, *sections = re.split(r"^## ", text, flags=re.M)
        for section in filter(blocks, sections):
            title = section.splitlines()[0]
            yield pytest.param(blocks(introduction) + blocks(section), id=f"{name}-{title}")


@pytest.mark.parametrize("code", list(cases()))
@pytest.mark.filterwarnings("ignore")  # the peers' own, at their import
@pytest.mark.usefixtures("jax_defaults")
def test_code_runs(code, tmp_path, monkeypatch):
    """The blocks share their names; the checks are the guides' own assertions."""
    assert "assert" in "".join(code)
    monkeypatch.chdir(tmp_path)
    names = {}
    try:
        for block in code:
            exec(block, names)
    except ModuleNotFoundError as missing:
        if missing.name not in PEERS:
            raise
        pytest.skip(f"needs {missing.name}")


@pytest.mark.parametrize("name", GUIDES)
def test_guide_is_short_and_complete(name):
    text = GUIDES[name]
    assert len(text.splitlines()) < 150
    assert text.startswith("# ")
    assert "\n## What can go wrong\n" in text
    assert "\nAPI: `" in text


def test_every_topic_has_a_guide():
    assert set(GUIDES) == TOPICS
