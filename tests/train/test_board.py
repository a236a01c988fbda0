"""The event file of a run, read by TensorBoard itself."""

import pytest

from vidar.train.board import open_board

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def test_curves_of_a_resumed_run_have_one_value_per_step(tmp_path):
    first = open_board(tmp_path, 0)
    for step in range(1, 6):
        first.add({"loss": float(step), "lr": 0.5}, step)
    first.close()
    second = open_board(tmp_path, 3)  # a kill lost the steps after 3
    for step in (4, 5):
        second.add({"loss": 10.0 * step, "lr": 0.25}, step)
    second.close()
    found = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert sorted(found.Tags()["scalars"]) == ["loss", "lr"]
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50)]
    assert [e.value for e in found.Scalars("lr")] == [0.5, 0.5, 0.5, 0.25, 0.25]
