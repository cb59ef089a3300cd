"""Lists the experiments, each with its question and its commands."""

import ast
from pathlib import Path


def listing() -> str:
    """The first two paragraphs of every script in this folder that says how it is run."""
    paths = sorted(Path(__file__).parent.glob("*.py"))
    heads = [ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "" for path in paths]
    runnable = [head.split("\n\n") for head in heads if "\n\npython -m experiments." in head]
    return "\n\n".join("\n".join(paragraphs[:2]) for paragraphs in runnable)


if __name__ == "__main__":
    print(listing())
    print("\nEvery command takes --help.")
