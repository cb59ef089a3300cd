"""A run of translation in small."""

import dataclasses
import io
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from common import assert_close

from experiments import translation
from experiments.harness.datasets import DatasetError
from experiments.harness.settings import Run
from experiments.translation import data as translation_data
from experiments.translation.data import Data, Part

pytestmark = pytest.mark.usefixtures("jax_defaults")

SMALL = translation.Config(
    embedding_size=16,
    hidden_size=32,
    batch_size=32,
    steps=150,
    learning_rate=1e-2,
    evaluate_every=50,
    beam_size=3,
)


@pytest.fixture
def few_words(monkeypatch):
    """Words of six letters with no more phonemes: one length is one compilation."""
    try:
        cmudict = translation_data.cmudict()
    except DatasetError as error:
        pytest.skip(str(error))
    short = []
    for part, count in zip(cmudict[:3], (3000, 40, 40), strict=True):
        rows = [
            (source, targets)
            for source, targets in zip(*part, strict=True)
            if len(source) == 6 and max(map(len, targets)) <= 6
        ]
        short.append(Part(*map(list, zip(*rows[:count], strict=True))))
    monkeypatch.setattr(translation_data, "cmudict", lambda: Data(*short, cmudict.separators))


def test_a_run_learns_records_and_resumes(few_words, tmp_path, monkeypatch, capsys):
    config = dataclasses.replace(SMALL, run=Run(output=tmp_path / "whole"))
    result = translation.main(config)
    losses = [entry["validation_loss"] for entry in result.fitted.history]
    assert losses[-1] < losses[0]
    assert list(result.scores) == ["greedy", "beam of 3"]
    baseline = result.baselines["most frequent token"]["token error"]
    assert result.scores["beam of 3"]["token error"] < baseline
    record = json.loads((tmp_path / "whole" / "translation-default.json").read_text())
    assert record["results"]["scores"] == result.scores
    for example in result.examples:
        attention = np.array(example["attention"])
        assert attention.shape == (len(example["found"]) + 1, len(example["source"]) + 1)
        assert_close(attention.sum(axis=1), jnp.ones(len(attention)), atol=1e-2)
    for name in ("translation-default.png", "translation-default.attention.png"):
        assert (tmp_path / "whole" / name).stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "beam of 3: sequence error" in printed
    assert "".join(result.examples[0]["source"]) + " -> " in printed

    def interrupted(*arguments):
        batch_at = batches_of(*arguments)

        def until(step):
            if step == 80:
                raise KeyboardInterrupt
            return batch_at(step)

        return until

    batches_of = translation_data.batches_of
    monkeypatch.setattr(translation_data, "batches_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        translation.main(dataclasses.replace(config, run=Run(output=tmp_path / "parts")))
    monkeypatch.setattr(translation_data, "batches_of", batches_of)
    run = Run(output=tmp_path / "parts", resume=True)
    resumed = translation.main(dataclasses.replace(config, run=run))
    jax.tree.map(np.testing.assert_array_equal, resumed.fitted.params, result.fitted.params)
    assert resumed.scores == result.scores

    lines = tmp_path / "lines.txt"
    source = "".join(result.examples[0]["source"])
    lines.write_text(f"{source}\n\nQuite\u2028x\n", encoding="utf-8")
    use = dataclasses.replace(config, use=tmp_path / "whole", lines=lines)
    found = translation.main(use)
    assert found[0].split() == list(result.examples[0]["found"])
    assert len(found) == 2
    assert f"{source}\t{found[0]}\n" in capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{source}\n"))
    assert translation.main(dataclasses.replace(use, lines=Path("-"))) == found[:1]
