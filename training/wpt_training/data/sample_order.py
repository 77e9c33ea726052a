"""In which order rows are trained on, and batches read ahead in that order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from wpt_training.data.batch import Batch
from wpt_training.data.sample_cache import SampleCache
from wpt_training.errors import TrainingError


class SampleOrder:
    """Endless random order of rows: every epoch a new permutation of all of them.

    ``take`` is a pure function of the seed and the position, so that a resumed run goes on exactly.
    """

    def __init__(self, rows: Sequence[int] | np.ndarray, seed: int):
        self.rows = np.array(rows, dtype=np.int64).reshape(-1)
        self.seed = seed
        if len(self.rows) == 0:
            raise TrainingError("there is no sample to train on; choose a data set with labelled samples.")

    def __len__(self) -> int:
        """Rows of one epoch."""
        return len(self.rows)

    def take(self, position: int, count: int) -> np.ndarray:
        """Return (count,) int64 rows of the endless order from ``position`` on."""
        at = np.arange(position, position + count)
        epoch, place = at // len(self.rows), at % len(self.rows)
        result = np.empty(count, dtype=np.int64)
        for number in np.unique(epoch):
            mine = epoch == number
            result[mine] = self.rows[_permutation(len(self.rows), self.seed, int(number))[place[mine]]]
        return result


@lru_cache(maxsize=8)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def batches(
    cache: SampleCache,
    order: SampleOrder,
    start: int,
    count: int,
    batch: int,
    workers: int = 1,
    *,
    share: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield ``count`` batches of ``batch`` rows, the first at position ``start`` of the order.

    workers: threads that read ahead, workers + 1 batches at most; 0 reads when asked. The batches are the
    same for any number. share: (rank, processes) of data-parallel training: each process gets its part of
    every step, so that ``batch * processes`` positions are used up a step. Closing the generator ends its
    threads.
    """
    rank, processes = share
    if not 0 <= rank < processes:
        raise TrainingError(
            f"share of the batches is {share}, expected (rank, processes) with rank below processes."
        )
    wanted = (order.take(start + (step * processes + rank) * batch, batch) for step in range(count))
    if workers < 1:
        yield from (cache.batch(rows) for rows in wanted)
        return
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="samples")
    ahead: deque[Future[Batch]] = deque()
    try:
        for rows in wanted:
            ahead.append(pool.submit(cache.batch, rows))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
