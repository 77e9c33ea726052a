"""Two processes by torchrun train one model: each reads its half of every batch, both end with the same parameters."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WORKER = "WPT_TEST_WORKER_FOLDER"


def work(folder: Path) -> None:
    """What each process does (this file is its script)."""
    spec = importlib.util.spec_from_file_location("toys", Path(__file__).with_name("test_trainer.py"))
    toys = importlib.util.module_from_spec(spec)
    sys.modules["toys"] = toys
    spec.loader.exec_module(toys)
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    rows: list[list[int]] = []

    class Stage(toys.ToyStage):
        def losses(self, batch, share):  # noqa: ANN001, ANN202
            rows.append(batch.row.tolist())
            return super().losses(batch, share)

    # Other weights on each rank: the first one's count.
    stopped = toys.run(folder / "run", stage=Stage(seed=rank), max_minutes=0)
    stage = Stage(seed=10 + rank)
    done = toys.run(folder / "run", stage=stage)
    assert (stopped.finished, stopped.step, done.finished) == (False, 1, True)
    parameters = {name: p.detach().contiguous() for name, p in stage.net.named_parameters()}
    save_file(parameters, folder / f"rank{rank}.safetensors")
    (folder / f"rank{rank}.json").write_text(json.dumps(rows))


def test_two_processes_end_with_equal_finite_parameters(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", __file__]
    environment = os.environ | {WORKER: str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    saved = load_file(tmp_path / "run" / "weights.safetensors")
    assert first.keys() == second.keys() and len(first) == 6
    for name, tensor in first.items():
        assert tensor.isfinite().all() and torch.equal(tensor, second[name]), name
        assert torch.equal(tensor, saved[f"net.{name}"]), name
    rows = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(batch) for batch in rows[0] + rows[1]] == [4] * 24
    epoch = [row for seen in rows for batch in seen[:5] for row in batch]
    assert sorted(epoch) == list(range(40))  # five batches of eight: each sample once, on one of the ranks
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 6, 9, 12]


if __name__ == "__main__" and WORKER in os.environ:
    work(Path(os.environ[WORKER]))
