"""Every public name has a docstring with its arguments, shapes, units, errors and an example.

The examples themselves are run as doctests.
"""

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gru_jax

ROOT = Path(__file__).resolve().parents[1]
SHAPE = r"`\[[^`\]]*\]`"  # such as `[T, ..., I]`
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):\n((?:[ \t]+.*\n|\n)+)", flags=re.M)
ENTRY = re.compile(r"^  (\**\w+): ((?:.*\n)(?:    .*\n|\n)*)", flags=re.M)
SAYS = {  # the shape, kind or unit that the entry of an argument of this name must state
    **dict.fromkeys(("x", "xs", "unit_mask", "state_scale", "prompt", "lengths"), SHAPE),
    **dict.fromkeys(("mask", "resets", "unit_mask"), rf"bool {SHAPE}"),
    **dict.fromkeys(("dropout", "input_dropout", "recurrent_dropout", "zoneout"), r"\[0, 1\)"),
    **dict.fromkeys(("max_length", "unroll"), "number of steps"),
    **dict.fromkeys(("input_size", "hidden_size", "output_size"), "number of features"),
    **dict.fromkeys(("w", "w_x", "w_h", "b", "b_hn", "b_h", "gain", "gain_h"), SHAPE),
    "length": "number of new tokens",
    "top_k": "number of tokens",
    "key": "consumed",
    "dtype": "floating",
}


def public(module):
    return {
        f"{module.__name__}.{name}": value
        for name, value in vars(module).items()
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
    }


PUBLIC = public(gru_jax) | public(gru_jax.convert)
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
HOLDERS = gru_jax.Bidirectional, gru_jax.GRUStack  # of parameters and states, not of arrays


def sections_of(docstring):
    """The sections by title, each as its text and a mapping of its entries."""
    bodies = dict(SECTION.findall(docstring + "\n"))
    return {title: (body, dict(ENTRY.findall(body))) for title, body in bodies.items()}


def gaps(docstring, arguments, titles=("Args", "Returns", "Raises"), shape=True):
    """What a docstring lacks; `arguments` has the names that each section must explain."""
    sections = sections_of(docstring)
    found = [f"section {title}" for title in titles if title not in sections]
    for title, names in arguments.items():
        entries = sections.get(title, ("", {}))[1]
        for name in names:
            text = entries.get(name)
            if text is None:
                found.append(f"{title}: {name}")
            elif not re.search(SAYS.get(name, ""), " ".join(text.split())):
                found.append(f"{title}: {name} must state {SAYS[name]!r}")
        found += [f"{title} explains {name}, which is unknown" for name in set(entries) - {*names}]
    if "Raises" in titles and "ValueError" not in sections.get("Raises", ("", {}))[1]:
        found.append("Raises: ValueError")
    if shape and not re.search(SHAPE, docstring):
        found.append("shapes")
    if ">>> " not in docstring:
        found.append("an example")
    return found


def parameters(function):
    prefix = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    signature = inspect.signature(function).parameters.values()
    return [prefix.get(each.kind, "") + each.name for each in signature if each.name != "self"]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_function_is_documented(name):
    function = FUNCTIONS[name]
    assert not gaps(inspect.getdoc(function), {"Args": parameters(function)})


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_class_is_documented(name):
    cls = CLASSES[name]
    fields = getattr(cls, "_fields", None) or [field.name for field in dataclasses.fields(cls)]
    arguments = {"Attributes": fields}
    assert not gaps(inspect.getdoc(cls), arguments, ("Attributes",), cls not in HOLDERS)


def test_gaps_are_found():
    complete = (
        "H.\n\nArgs:\n  x: input `[..., I]`.\n\nReturns:\n  y.\n\nRaises:\n  ValueError: x.\n\n"
        ">>> 1\n1"
    )
    assert not gaps(complete, {"Args": ["x"]})
    without = {
        "input `[..., I]`": "Args: x must state",
        ">>> ": "an example",
        "ValueError": "Raises: ValueError",
        "Returns:\n": "section Returns",
        "x: ": "Args: x",
    }
    for text, gap in without.items():
        found = gaps(complete.replace(text, ""), {"Args": ["x"]})
        assert any(each.startswith(gap) for each in found)


def test_reference_shows_every_public_name(tmp_path):
    """The command of the README, into a folder of this test's."""
    pytest.importorskip("pdoc")
    pytest.importorskip("flax")
    (command,) = re.findall(r"\.venv/bin/(pdoc .*)", (ROOT / "README.md").read_text("utf-8"))
    command = [*command.split()[:-1], str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    layers = "gru_jax.flax.linen.RNN", "gru_jax.flax.nnx.RNN"
    for name in (*PUBLIC, *layers):
        module, _, member = name.rpartition(".")
        page = tmp_path / f"{module.replace('.', '/')}.html"
        assert f'id="{member}"' in page.read_text("utf-8"), name
