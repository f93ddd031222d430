from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.jobs.scaling import START_SECONDS, LabelingCost, scale_labeling

COST = LabelingCost(
    examples=10_000, asked=2, example_seconds=0.01, row_bytes=100, input_bytes=10,
    shard_examples=500,
)  # fmt: skip


def test_by_hand():
    found = scale_labeling(COST, 8)
    assert (COST.shards, COST.store_bytes, COST.worker_seconds) == (40, 2_000_000, 200.0)
    assert found.seconds == pytest.approx(START_SECONDS + 5 * 500 * 0.01)  # 5 shards each
    assert found.write_rate == pytest.approx(2_000_000 / 25)
    assert found.bottleneck == "the teacher: use more workers, up to 40, one per shard"


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_more_workers_never_take_longer(fewer, more):
    fewer, more = sorted((fewer, more))
    assert scale_labeling(COST, more).seconds <= scale_labeling(COST, fewer).seconds


@pytest.mark.parametrize(
    ("change", "workers", "told"),
    [
        ({}, 41, "too few shards, 40 for 41 workers"),
        ({"row_bytes": 10**8}, 4, "writing the store: use sparse"),
        ({"input_bytes": 10**8}, 4, "reading the inputs"),
        ({"shard_examples": 1}, 9000, "the driver"),
    ],
)
def test_the_first_bottleneck_is_named(change, workers, told):
    assert scale_labeling(replace(COST, **change), workers).bottleneck.startswith(told)
