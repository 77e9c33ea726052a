from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_training.data.batch import tensors_of
from wpt_training.data.sample_cache import SampleCache
from wpt_training.data.sample_order import SampleOrder, batches
from wpt_training.errors import TrainingError


@given(
    count=st.integers(1, 30),
    position=st.integers(0, 200),
    first=st.integers(0, 20),
    second=st.integers(0, 20),
)
def test_take_is_a_function_of_the_position(count: int, position: int, first: int, second: int):
    order = SampleOrder(np.arange(100, 100 + count), seed=3)
    whole = order.take(position, first + second)
    again = SampleOrder(np.arange(100, 100 + count), seed=3)
    np.testing.assert_array_equal(whole[first:], again.take(position + first, second))


def test_every_epoch_holds_every_row_once_in_another_order():
    order = SampleOrder([3, 5, 8, 13, 21], seed=0)
    epochs = order.take(0, 25).reshape(5, 5)
    assert (np.sort(epochs) == [3, 5, 8, 13, 21]).all()
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert not np.array_equal(order.take(0, 25), SampleOrder([3, 5, 8, 13, 21], seed=1).take(0, 25))


def test_no_rows_at_all():
    with pytest.raises(TrainingError, match="no sample"):
        SampleOrder([], seed=0)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_follow_the_order_with_any_number_of_threads(factory_cache: SampleCache, workers: int):
    order = SampleOrder(range(10), seed=4)
    read = list(batches(factory_cache, order, 6, 5, 3, workers))
    assert torch.cat([batch.row for batch in read]).tolist() == order.take(6, 15).tolist()
    expected = tensors_of(factory_cache.batch(order.take(9, 3)))
    assert torch.equal(tensors_of(read[1])["images"], expected["images"])


def test_processes_share_each_step(factory_cache: SampleCache):
    order = SampleOrder(range(10), seed=4)
    parts = [list(batches(factory_cache, order, 2, 3, 2, 1, share=(rank, 2))) for rank in (0, 1)]
    together = [row for step in zip(*parts, strict=True) for part in step for row in part.row.tolist()]
    assert together == order.take(2, 12).tolist()
    with pytest.raises(TrainingError, match="share"):
        next(batches(factory_cache, order, 0, 1, 1, share=(2, 2)))


def test_an_error_reaches_the_reader_and_closing_ends_the_threads(factory_cache: SampleCache):
    stream = batches(factory_cache, SampleOrder([2, 99], seed=0), 0, 4, 2, 2)
    with pytest.raises(TrainingError, match="99"):
        next(stream)
    stream = batches(factory_cache, SampleOrder(range(10), seed=0), 0, 1000, 2, 2)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samples")]
