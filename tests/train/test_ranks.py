"""Several processes take the same way through every step, whatever clips each of them has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_loop import config, losses, weights

from vidar.train.fit import fit
from vidar.train.loop import ELSEWHERE
from vidar.train.ranks import ALONE, anywhere

# whose steps differ in their forwards, by draws: own context, its generations, the length of a prefix, who learns what
RECIPES = ["world_doom", "ca2vdm_doom", "world_doom_shortcut", "world_doom_student", "world_doom_one_call"]
TOYS = ["toy", "toy-bad", "toy-stop"]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """(case, rank) -> what that process wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    script, cases = Path(__file__).with_name("two_ranks.py"), [*TOYS, *RECIPES, *(f"{name}-apart" for name in RECIPES)]
    command = [sys.executable, str(script)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen([*command, str(rank), str(folder), *cases], env=env, stderr=subprocess.PIPE) for rank in (0, 1)
    ]
    try:
        for process in both:
            _, errors = process.communicate(timeout=120)  # ranks that disagree wait for ever
            assert process.returncode == 0, errors.decode()[-3000:]
    finally:
        for process in both:
            process.kill()
    return lambda case, rank: json.loads((folder / f"{case}-{rank}.json").read_text())


@pytest.mark.parametrize("name", RECIPES)
def test_all_ranks_make_the_same_forwards(told, name):
    """And end with the same weights, though their clips differ."""
    first, second = (told(name, rank) for rank in (0, 1))
    assert first["seen"] == second["seen"] and len({str(step) for step in first["seen"]}) > 1
    assert first["weights"] == second["weights"]


@pytest.mark.parametrize("name", RECIPES)
def test_twin_ranks_that_do_not_agree_differ_in_their_forwards(told, name):
    first, second = (told(f"{name}-apart", rank)["seen"] for rank in (0, 1))
    assert first != second


def test_two_ranks_with_half_a_batch_each_are_one_process_with_all_of_it(told, tmp_path):
    result = fit(config(steps=12), tmp_path, device="cpu")
    made, alone = told("toy", 0), losses(tmp_path)
    assert {int(step): loss for step, loss in made["losses"].items()}.keys() == alone.keys()
    for name, value in weights(result, "ema").items():
        torch.testing.assert_close(torch.tensor(made["weights"][name]), value, rtol=1e-5, atol=1e-6)
    assert made["model"] == ["sample", "sample", "export"] and told("toy", 1)["model"] == [], "rank 0 writes"
    assert told("toy", 0)["elapsed"] == told("toy", 1)["elapsed"], "one clock"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_batch_that_one_rank_cannot_use_is_used_by_none(told, rank):
    assert told("toy-bad", rank)["skipped"] == 1 and told("toy-bad", rank)["step"] == 12


def test_a_signal_to_one_rank_stops_all_after_the_same_step(told):
    first, second = (told("toy-stop", rank) for rank in (0, 1))
    assert first["step"] == second["step"] == 5 and first["checkpoint"] == second["checkpoint"] == "step-00000005"
    assert (first["stopped"], second["stopped"]) == (ELSEWHERE, "SIGTERM") and not first["model"]


def test_who_is_alone_agrees_with_itself():
    assert ALONE.agree(0.3) == 0.3 and anywhere(ALONE, True) and not anywhere(ALONE, False)
