"""The choice of an update's rows by length."""

from collections import Counter

import numpy as np

from experiments.harness.batches import GROUP, similar_rows_at

LENGTHS = np.arange(1, 101) % 10 + 1  # ten rows of each length from 1 to 10


def test_rows_have_similar_lengths_and_all_lengths_come():
    seen = Counter()
    for step in range(0, 300 * GROUP, GROUP):
        rows, limit = similar_rows_at(step, LENGTHS, (2, 5, 8), 6)
        assert len(set(rows)) == 6
        lower = {2: 0, 5: 2, 8: 5}[limit]
        # rows longer than the last limit are in the last bucket
        assert np.all((lower < LENGTHS[rows]) & ((LENGTHS[rows] <= limit) | (limit == 8)))
        seen[limit] += 1
    # as often as they have rows: 20, 30 and 50 of 100
    for limit, share in {2: 0.2, 5: 0.3, 8: 0.5}.items():
        assert abs(seen[limit] / 300 - share) < 0.1


def test_a_group_of_updates_has_one_length_and_different_rows():
    for group in range(5):
        found = [similar_rows_at(group * GROUP + i, LENGTHS, (2, 5, 8), 6) for i in range(GROUP)]
        assert len({limit for _, limit in found}) == 1
        assert len({tuple(rows) for rows, _ in found}) == GROUP
        rows, _ = similar_rows_at(group * GROUP, LENGTHS, (2, 5, 8), 6)
        np.testing.assert_array_equal(rows, found[0][0])


def test_a_bucket_with_fewer_rows_than_the_batch_repeats_them():
    rows, _ = similar_rows_at(0, np.array([1, 1]), (2, 5), 6)
    assert set(rows) <= {0, 1}
    assert len(rows) == 6
