"""Ranks and metrics by hand; a user's items, by their titles or by parts of them."""

import math

import numpy as np
import pytest

from experiments.harness.settings import SettingError
from experiments.recommendation.data import NONE, Cases
from experiments.recommendation.ranking import metrics_of, ndcg_at, ranks_of
from experiments.recommendation.run import items_of

pytestmark = pytest.mark.usefixtures("jax_defaults")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "--items is empty, but must name what was chosen"),
        (
            ("star",),
            "--items has 'star', but must match one title; it matches Star Wars; Star Trek",
        ),
        (("alien",), "it matches none"),
    ],
)
def test_items_that_are_not_named_are_refused(names, said):
    with pytest.raises(SettingError, match=said):
        items_of(names, ["Star Wars", "Star Trek", "Heat"])


def test_items_are_named_by_titles_or_parts_of_them():
    titles = ["Heat", "Heat and Dust", "Star Wars"]
    assert items_of(["wars", "heat", "and d"], titles) == [2, 0, 1]


@pytest.mark.parametrize(
    ("scores", "unseen", "all_items"),
    [
        ([5, 4, 3, 2, 1, 0], 1, 3),  # 0 and 1 have been seen
        ([0, 1, 2, 3, 4, 5], 4, 4),
        ([0, 0, 0, 0, 0, 0], 4, 6),  # what is equal goes first
        ([9, 0, 2, 2, 1, 9], 3, 4),
        ([0, 0, math.nan, 0, 0, 0], 4, 6),  # no score is no hit
        ([0, 0, 1, math.nan, 0, 0], 2, 2),
    ],
)
def test_ranks_count_what_is_not_below_the_target(scores, unseen, all_items):
    cases = Cases(None, None, None, np.array([[0, 1, NONE]]), np.array([2]))
    ranks = ranks_of(lambda query: query, np.array([scores], np.float32), cases)
    assert (ranks.unseen.tolist(), ranks.all.tolist()) == ([unseen], [all_items])


def test_metrics_by_hand():
    ranks = np.array([1, 3, 10, 11, 6])
    discounted = [1, 1 / 2, 1 / math.log2(11), 0, 1 / math.log2(7)]
    expected = {
        "HR@5": 2 / 5,
        "HR@10": 4 / 5,
        "HR@20": 1,
        "NDCG@10": sum(discounted) / 5,
        "MRR": (1 + 1 / 3 + 1 / 10 + 1 / 11 + 1 / 6) / 5,
    }
    assert metrics_of(ranks) == pytest.approx(expected)
    assert float(ndcg_at(2, ranks)) == pytest.approx(1 / 5)
