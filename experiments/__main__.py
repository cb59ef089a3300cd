"""Lists the experiments, each with its question, command and time: the table of README.md."""

import re
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).with_name("README.md")


class Row(NamedTuple):
    """A row of the table."""

    name: str  # of the package
    page: str  # the link behind the name
    question: str
    command: str
    time: str  # of training


def rows() -> list[Row]:
    """The table of experiments in README.md, the one list of them that there is."""
    cells = r"^\| \[(\w+)\]\((.+?)\) \| (.+?) \| `(.+?)` \| (.+?) \|"
    return [Row(*row) for row in re.findall(cells, README.read_text("utf-8"), flags=re.M)]


if __name__ == "__main__":
    for row in rows():
        print(f"{row.question}\n{row.command}\n{row.time}\n")
    print("Every command takes --help.")
