"""The pixels experiment: its file, orders and batches, its loss, cut-off images, a small run."""

import dataclasses
import gzip
import json
import pickle
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close, randomised
from PIL import Image

import gru_jax
from experiments import pixels
from experiments.harness.models import opened, params_of
from experiments.harness.settings import Run, SettingError, check
from experiments.pixels import data as pixels_data
from experiments.pixels import model as models
from experiments.pixels.config import Config
from experiments.pixels.data import (
    ArrayUnpickler,
    Data,
    Part,
    pixels_of,
    read_image,
    rows_at,
    sequences_of,
)
from experiments.pixels.run import blocks_of, latest_of

pytestmark = pytest.mark.usefixtures("jax_defaults")
SMALL = Config(hidden_size=6, batch_size=5, seeds=2)


def part_of(count, seed=0):
    """Images of a bright bar, which is further down the larger the digit is."""
    rng = np.random.default_rng(seed)
    digits = rng.permutation(np.arange(count) % 10).astype(np.int32)
    images = rng.integers(0, 60, (count, 28, 28))
    for image, digit in zip(images, digits, strict=True):
        image[8 + 2 * digit : 10 + 2 * digit] += 190
    return Part(images.reshape(count, 784).astype(np.uint8), digits)


def small_model(config=SMALL):
    model = models.init_model(jax.random.key(0), config)
    return randomised(model)


def dumped(array):
    """An array as Python 2 pickled it."""
    shape = b"".join(b"I%d\n" % size for size in array.shape)
    kind, content = array.dtype.str[1:].encode(), array.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
        + shape
        + (b"tcnumpy\ndtype\n(S'" + kind + b"'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nT")
        + struct.pack("<i", len(content))
        + (content + b"tb")
    )


def test_the_file_is_read_as_three_parts(tmp_path, monkeypatch):
    parts = [part_of(count, seed) for seed, count in enumerate((12, 4, 3))]
    tuples = (
        b"("
        + dumped(part.images.astype(np.float32) / 256)
        + dumped(part.digits.astype("i8"))
        + b"t"
        for part in parts
    )
    path = tmp_path / "mnist.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        content = gzip.compress(b"(" + b"".join(tuples) + b"t.")
        wheel.writestr("mnist/data/mnist.pkl.gz", content)
    monkeypatch.setattr(pixels_data, "fetch", lambda source: path)
    monkeypatch.setattr(pixels_data, "_HELD_OUT", 6)
    found = pixels_data.load()
    assert [len(part.digits) for part in found] == [10, 6, 3]
    for i, leaf in enumerate(("images", "digits")):
        known = np.concatenate([part[i] for part in parts[:2]])
        np.testing.assert_array_equal(np.concatenate([found.train[i], found.validation[i]]), known)
        np.testing.assert_array_equal(getattr(found.test, leaf), parts[2][i])
        assert found.test[i].dtype == parts[2][i].dtype


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'open(%r, \"w\")'\ntR.",
        b"cos\nsystem\n(S'touch %s'\ntR.",
        b"cnumpy\nload\n(S'%s'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n(S'%s'\ntR.",
    ],
    ids=["eval", "system", "load", "fromfile"],
)
def test_a_pickle_that_asks_for_anything_else_is_refused(content, tmp_path):
    path = tmp_path / "pickle"
    path.write_bytes(content.replace(b"%r", b"%s") % str(tmp_path / "made").encode())
    name = ".".join(content.decode()[1:].split("\n")[:2])
    with path.open("rb") as file, pytest.raises(pickle.UnpicklingError, match=f"for {name}, no"):
        ArrayUnpickler(file, encoding="latin1").load()
    assert list(tmp_path.iterdir()) == [path]


def test_all_images_are_permuted_alike():
    part = part_of(3)
    order = pixels_of("permuted", 0)
    np.testing.assert_array_equal(np.sort(order), pixels_of("sequential", 0))
    np.testing.assert_array_equal(order, pixels_of("permuted", 0))
    assert np.mean(order == pixels_of("permuted", 1)) < 0.05
    for pixels_per_step in (1, 28):
        xs, digits = sequences_of(part, order, pixels_per_step)
        assert xs.shape == (784 // pixels_per_step, 3, pixels_per_step)
        assert xs.dtype == np.uint8
        np.testing.assert_array_equal(xs.swapaxes(0, 1).reshape(3, 784), part.images[:, order])
        np.testing.assert_array_equal(digits, part.digits)


def test_every_image_is_seen_once_in_an_epoch():
    epochs = [[rows_at(step, 23, 5) for step in range(4 * i, 4 * i + 4)] for i in range(2)]
    for epoch in epochs:
        assert len(np.unique(epoch)) == 20
    assert not np.array_equal(*epochs)
    np.testing.assert_array_equal(epochs[1][2], rows_at(6, 23, 5))


def test_pixels_of_a_step_must_be_a_part_of_a_row():
    with pytest.raises(SettingError, match="--pixels-per-step is 3, but must be one of 1, 2, 4"):
        check(Config(pixels_per_step=3))


def test_units_keep_their_state_at_first():
    """With all other weights zero the state decays by a factor of 1 to T steps' memory."""
    model = models.init_model(jax.random.key(0), Config(hidden_size=64, pixels_per_step=14))
    params = jax.tree.map(lambda leaf: leaf * (leaf.ndim == 1), model.cell)
    memory = 1 / (1 - gru_jax.gru_step(params, jnp.ones(64), jnp.zeros(14)))  # steps
    assert 1 < memory.min() < 10 < 45 < memory.max() < 58


@pytest.mark.parametrize("pixels_per_step", [4, 28])
def test_the_loss_is_that_of_the_last_state_and_of_those_after_each_row(pixels_per_step):
    """Against a loop over images and steps."""
    config = Config(hidden_size=6, pixels_per_step=pixels_per_step, row_weight=0.3)
    model, part = small_model(config), part_of(3)
    last, rows = [], []
    step = jax.jit(gru_jax.gru_step)
    for image, digit in zip(part.images, part.digits, strict=True):
        h, nats = jnp.zeros(6), []
        for t, x in enumerate(image.reshape(-1, pixels_per_step), 1):
            h = step(model.cell, h, jnp.asarray((x / 255 - 0.1307) / 0.3081, jnp.float32))
            if t * pixels_per_step % 28 == 0:
                logits = np.asarray(gru_jax.readout(model.head, h), np.float64)
                nats.append(np.log(np.exp(logits).sum()) - logits[digit])
        last.append(nats[-1])
        rows.append(np.mean(nats))
        assert len(nats) == 28
    batch = sequences_of(part, np.arange(784), pixels_per_step)
    assert_close(
        models.loss_of(config, model, batch), np.mean(last) + 0.3 * np.mean(rows), rtol=1e-5
    )


def test_an_accuracy_after_so_many_rows_is_that_of_images_cut_off_there():
    """Whatever follows changes nothing; and all blocks count."""
    model, part = small_model(), part_of(40)
    order = pixels_of("permuted", 0)
    actual = models.accuracies(model, blocks_of(part, order, SMALL))
    assert actual.shape == (28,)
    beliefs = models.beliefs(model, sequences_of(part, order, 28).xs)
    assert beliefs.shape == (28, 40, 10)
    for rows in (1, 9, 28):
        xs = sequences_of(part, order[: 28 * rows], 28).xs
        belief = jax.nn.softmax(gru_jax.readout(model.head, models.states_of(model, xs)[-1]))
        assert_close(beliefs[rows - 1], belief, rtol=1e-5, atol=1e-6)
        right = np.mean(np.argmax(belief, axis=-1) == part.digits)
        assert_close(actual[rows - 1], right, rtol=1e-6)
    assert np.unique(actual).size > 3


def test_a_run_learns_records_resumes_and_is_used(tmp_path, monkeypatch, capsys):
    """It learns, leaves a record and figures, and a resumed run has nothing left to do."""
    parts = Data(part_of(200, 0), part_of(50, 1), part_of(50, 2))
    monkeypatch.setattr(pixels_data, "load", lambda: parts)
    config = Config(
        orders=("sequential",),
        hidden_size=16,
        batch_size=20,
        steps=240,
        evaluate_every=120,
        learning_rate=1e-2,
        seeds=2,
        run=Run(output=tmp_path),
    )
    results = pixels.main(config).orders
    record = json.loads((tmp_path / "pixels-default.json").read_text())
    assert record["results"] == results
    assert record["warnings"] == []
    assert record["settings"]["permutation"] == 0
    for name in ("png", "beliefs.png"):
        assert (tmp_path / f"pixels-default.{name}").stat().st_size > 10_000
    found = results["sequential"]
    curves = np.array(found["accuracy_after_rows"])
    assert curves.shape == (2, 28)
    assert found["accuracy"] == curves[:, -1].tolist()
    assert curves[:, 7].mean() < 0.2 < 0.5 < curves[:, -1].mean()  # the bars are below
    assert [entry["step"] for entry in found["history"]] == [120, 240]
    numbers = pixels.summary(record)
    right = f"{100 * np.mean(found['accuracy']):.2f} ± "
    assert numbers["sequential"].startswith(right)
    assert "sequential, after 392 pixels" in numbers
    again = pixels.main(Config(**{**vars(config), "run": Run(output=tmp_path, resume=True)}))
    assert again.orders == results
    image = np.pad(parts.test.images[0].reshape(28, 28), 9)
    Image.fromarray(image).save(tmp_path / "image.png")
    used = dataclasses.replace(config, use=tmp_path, image=tmp_path / "image.png")
    xs = sequences_of(Part(read_image(used.image)[None], parts.test.digits[:1]), np.arange(784), 28)
    _, saved = opened(used)
    model = params_of(saved, lambda: {"sequential": models.init_model(jax.random.key(0), config)})
    belief = models.beliefs(model["sequential"], xs.xs)[-1, 0]
    assert pixels.main(used) == {"sequential": int(np.argmax(belief))}
    assert f"sequential: {np.argmax(belief)}, with probability {belief.max():.4f}" in (
        capsys.readouterr().out
    )
    assert (tmp_path / "pixels-default.image.png").stat().st_size > 10_000


def drawn(path, mode="L", paper=255, ink=0):
    """A seven of broad strokes, off the centre of a larger image; returns its mask."""
    mask = np.zeros((120, 90), bool)
    mask[15:25, 30:80] = mask[15:95, 70:80] = True
    image = Image.new(mode, (90, 120), paper)
    image.paste(ink, mask=Image.fromarray(mask))
    image.save(path)
    return mask


def test_a_users_image_is_framed_as_those_of_the_set(tmp_path):
    """Whatever the colours; its longer side has 20 pixels, its centre of mass is the image's."""
    path = tmp_path / "seven.png"
    mask = drawn(path)
    image = read_image(path)
    assert image.dtype == np.uint8
    image = image.reshape(28, 28)
    rows, columns = np.nonzero(image > 64)
    assert np.ptp(rows) + 1 == 20
    assert 12 <= np.ptp(columns) + 1 <= 13  # of 50 / 80
    assert image.max() > 250
    centre = np.indices((28, 28)).reshape(2, -1) @ image.ravel() / image.sum()
    assert np.abs(centre - 13.5).max() <= 0.6
    share = mask.sum() / (80 * 50)
    assert abs(image.sum() / 255 / (20 * 12.5) - share) < 0.05
    for mode, paper, ink in (
        ("L", 10, 200),
        ("RGB", (255, 250, 240), (20, 30, 120)),
        ("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)),
    ):
        drawn(path, mode, paper, ink)
        np.testing.assert_allclose(read_image(path).reshape(28, 28), image, atol=3)


def test_a_user_is_told_what_is_wrong_with_an_image(tmp_path):
    path = tmp_path / "image.png"
    for said in ("No such file or directory", "it is no image", "all of it is of one colour"):
        with pytest.raises(SettingError, match=f"--image is '{path}'.* {said}."):
            read_image(path)
        if path.exists():
            Image.new("L", (40, 40), 200).save(path)
        else:
            path.write_text("7")
    with pytest.raises(SettingError, match="--image is missing"):
        pixels.main(Config(use=tmp_path))


def test_images_that_are_recognised_late_are_shown():
    digits = np.arange(1, 7)
    said = np.zeros((28, 6), int)
    for i, row in enumerate((0, 20, 28, 27, 5, 20)):  # from which on it is right
        said[row:, i] = digits[i]
    said[10, 5] = digits[5]
    np.testing.assert_array_equal(latest_of(np.eye(10)[said], digits), [3, 1, 5])
