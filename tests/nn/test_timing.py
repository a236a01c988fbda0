"""Forms timed in turn, and answers that stay: whoever asks first on a machine decides, and all others read."""

import json
import threading

import pytest

from vidar.nn import timing
from vidar.nn.timing import BUDGET_S, TURNS, Kept, fastest, times


class Clock:
    """Forms that take so many seconds, slower by `warm` the first time; `ran`: their order."""

    def __init__(self, seconds, warm=10.0):
        self.now, self.ran, self.warm = 0.0, [], warm
        self.forms = {name: lambda name=name: self._run(name, seconds[name]) for name in seconds}

    def _run(self, name, seconds):
        self.now += seconds + (self.warm if name not in self.ran else 0)
        self.ran.append(name)

    def times(self):
        return times(self.forms, lambda: self.now)


def test_forms_are_run_in_turn_after_a_warm_up():
    clock = Clock({"a": 0.003, "b": 0.004}, warm=0)
    assert clock.times() == pytest.approx({"a": 0.003, "b": 0.004})
    assert clock.ran == ["a", "b"] * (1 + TURNS)


def test_a_warm_up_does_not_count_and_the_best_turn_does():
    clock, spent = Clock({"a": 0.0, "b": 0.0}, warm=0), iter([9, 9, 5, 7, 3, 8, 4, 6, 4, 6, 4, 6])
    clock.forms = {name: lambda: setattr(clock, "now", clock.now + 1e-3 * next(spent)) for name in clock.forms}
    assert clock.times() == pytest.approx({"a": 0.003, "b": 0.006})


def test_who_is_far_behind_is_not_run_again():
    clock = Clock({"a": 0.001, "b": 0.0019, "c": 0.0021}, warm=0)
    assert clock.times()["c"] == pytest.approx(0.0021)
    assert [clock.ran.count(name) for name in "abc"] == [1 + TURNS, 1 + TURNS, 2]
    alone = Clock({"a": 0.001, "b": 0.0021})
    alone.times()
    assert alone.ran == ["a", "b", "a", "b"]


def test_the_budget_ends_the_turns_but_not_before_the_second():
    seconds = BUDGET_S / 2
    clock = Clock({"a": seconds, "b": seconds}, warm=0)
    clock.times()
    assert clock.ran == ["a", "b"] * 3
    clock = Clock({"a": BUDGET_S / 9, "b": BUDGET_S / 9}, warm=0)
    clock.times()
    assert clock.ran == ["a", "b"] * 5


@pytest.mark.parametrize(("spent", "best"), [((1.0, 1.2), "a"), ((1.09, 1.0), "a"), ((1.11, 1.0), "b")])
def test_only_a_clear_lead_changes_the_form(spent, best):
    assert fastest(dict(zip("ab", spent)), "a") == best


def ask(folder, times=None, names=("a", "b"), case="case", incumbent="a"):
    def measure():
        assert times is not None, "measured again"
        return times

    return Kept(folder).answer(case, names, incumbent, measure)


def test_the_first_answer_is_the_answer(tmp_path, monkeypatch):
    assert ask(tmp_path, {"a": 2.0, "b": 1.0}) == "b"
    assert ask(tmp_path) == "b"
    assert ask(tmp_path, {"a": 1.0, "b": 2.0}, case="another") == "a"
    assert ask(tmp_path) == "b" and ask(tmp_path, case="another") == "a"
    kept = json.loads((tmp_path / "attention.json").read_text())
    assert kept[timing.machine()]["case"] == {"form": "b", "ms": {"a": 2000.0, "b": 1000.0}}
    monkeypatch.setattr(timing.torch, "get_num_threads", lambda: 77)
    assert ask(tmp_path, {"a": 1.0, "b": 2.0}) == "a"  # with so many threads it was another machine
    monkeypatch.undo()
    can = timing.torch.cpu.get_capabilities()
    monkeypatch.setattr(timing.torch.cpu, "get_capabilities", lambda: {**can, "avx512_bf16": "perhaps"})
    assert ask(tmp_path, {"a": 1.0, "b": 2.0}) == "a"


def test_an_answer_that_is_no_form_any_more_is_asked_again(tmp_path):
    ask(tmp_path, {"a": 2.0, "b": 1.0})
    assert ask(tmp_path, {"a": 1.0, "c": 2.0}, names=("a", "c")) == "a"


DAMAGED = ["", "{", "[]", "null", '{"machine": 3}', "MACHINE 3", 'MACHINE {"case": 3}', 'MACHINE {"case": {}}', b"\xff"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_counts_as_empty_and_is_mended(tmp_path, text, capsys):
    if isinstance(text, str):
        here, _, rest = text.partition(" ")
        text = (json.dumps({timing.machine(): json.loads(rest)}) if here == "MACHINE" else text).encode()
    (tmp_path / "attention.json").write_bytes(text)
    assert ask(tmp_path, {"a": 2.0, "b": 1.0}) == "b"
    said = capsys.readouterr().err
    assert said in ("", f"vidar: {tmp_path / 'attention.json'}: damaged; the attention forms are timed again\n")
    assert bool(said) or json.loads(text)  # a readable answer that is none counts as not given
    assert ask(tmp_path) == "b" and not capsys.readouterr().err


def test_where_nothing_can_be_kept_nothing_is_measured(tmp_path):
    """Else two processes could answer differently."""
    (tmp_path / "file").touch()
    assert ask(tmp_path / "file") == "a"
    assert ask(tmp_path / "file" / "folder") == "a"


def test_what_cannot_be_locked_can_still_be_read(tmp_path):
    ask(tmp_path, {"a": 2.0, "b": 1.0})
    (tmp_path / "attention.lock").unlink()
    (tmp_path / "attention.lock").mkdir()
    assert ask(tmp_path) == "b" and ask(tmp_path, case="another") == "a"


def test_an_answer_that_could_not_be_written_is_not_taken(tmp_path):
    (tmp_path / "attention.json").mkdir()
    assert ask(tmp_path, {"a": 2.0, "b": 1.0}) == "a"


def test_all_who_ask_at_once_get_one_answer(tmp_path):
    """Eight threads, every one of which finds another form the fastest."""
    names, barrier, got, measured = list("abcdefgh"), threading.Barrier(8), [], []

    def one(mine):
        def measure():
            measured.append(mine)
            return {name: 1.0 + (name != mine) for name in names}

        barrier.wait()
        got.append(Kept(tmp_path).answer("case", names, "a", measure))

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8 and set(got) == set(measured) and len(measured) == 1
