"""Compiled functions on disk: a damaged file is compiled again, and a folder that cannot be written is no failure."""

import shutil

import numpy as np
import pytest
import torch
from torch._inductor.codecache import cache_dir

from vidar.nn import ahead
from vidar.nn.ahead import AheadOfTime, NotMade
from vidar.types import VidarError

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
EXAMPLE = (torch.ones(2, 3),)


def module():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 4).eval()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one compiled function."""
    folder = tmp_path_factory.mktemp("compiled")
    with torch.no_grad():
        AheadOfTime(folder)(module(), EXAMPLE)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "cache")


@pytest.fixture
def compiles(made, monkeypatch):
    """The compiler gives what it gave before, at once; a list of its calls."""
    (file,), calls = made.iterdir(), []

    def package(module, example, place):
        calls.append(place)
        shutil.copy(file, place)

    monkeypatch.setattr(ahead, "package", package)
    return calls


def answer(build):
    with torch.no_grad():
        return build(module(), EXAMPLE)(*EXAMPLE)


def test_what_is_stored_is_the_function_and_is_not_compiled_again(folder, compiles):
    (file,) = folder.iterdir()
    torch.testing.assert_close(answer(AheadOfTime(folder, make=False)), module()(*EXAMPLE))
    assert not compiles and ahead.content(file) == file.stem.partition("-")[2]


def damaged(data, rng):
    """Cut off, a flipped bit, or some other bytes; seldom nothing."""
    data, at = bytearray(data), int(rng.integers(len(data)))
    kind = rng.integers(3)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at] ^= 1 << int(rng.integers(8))
    else:
        data[at : at + 64] = rng.bytes(64)
    return bytes(data)


def test_random_damage_is_compiled_again_with_one_line(folder, compiles, capfd):
    (file,), rng = folder.iterdir(), np.random.default_rng(0)
    whole, want = file.read_bytes(), answer(AheadOfTime(folder))
    for number in range(1, 21):
        file.unlink()
        file.write_bytes(damaged(whole, rng))
        with pytest.raises(NotMade):
            AheadOfTime(folder, make=False)(module(), EXAMPLE)
        capfd.readouterr()
        assert torch.equal(answer(AheadOfTime(folder)), want) and len(compiles) == number
        said = capfd.readouterr().err
        assert said.startswith(f"vidar: {file}: cannot be used (") and said.count("\n") == 1
        assert file.read_bytes() == whole and len(list(folder.iterdir())) == 1


def test_damage_leaves_no_file_of_another_content(folder, compiles):
    (file,) = folder.iterdir()
    file.rename(other := file.with_name(f"{file.stem.partition('-')[0]}-{'0' * 16}.pt2"))
    answer(AheadOfTime(folder))
    assert file.exists() and not other.exists()


def test_where_nothing_can_be_kept_it_is_compiled_for_this_process(compiles, capsys):
    torch.testing.assert_close(answer(build := AheadOfTime(ahead.Path("/dev/null/x"))), module()(*EXAMPLE))
    answer(build)
    said = capsys.readouterr().err
    assert said.startswith("vidar: /dev/null/x cannot be written") and said.count("\n") == 1 and "--cache DIR" in said
    assert len(compiles) == 1


def test_a_compiler_that_fails_is_one_line(folder, tmp_path, monkeypatch):
    def package(*_):
        raise RuntimeError("g++: no space left on device\nin a file")

    monkeypatch.setattr(ahead, "package", package)
    with pytest.raises(VidarError, match=r"^compiling failed \(g\+\+: no space left on device\); --no-compile"):
        answer(AheadOfTime(tmp_path / "new"))
    assert not list((tmp_path / "new").iterdir())


def test_a_damaged_cache_of_the_compiler_is_left_aside(made, tmp_path, monkeypatch, capfd):
    (file,), caches = made.iterdir(), []

    def package(module, example, place):
        caches.append(cache_dir())
        if len(caches) == 1:
            raise RuntimeError("C++ compile error")
        shutil.copy(file, place)

    monkeypatch.setattr(ahead, "package", package)
    torch.testing.assert_close(answer(AheadOfTime(tmp_path / "new")), module()(*EXAMPLE))
    assert len(set(caches)) == 2 and "trying once more without the cache" in capfd.readouterr().err


def test_functions_unused_for_longest_make_room(folder, compiles, monkeypatch):
    (file,) = folder.iterdir()
    monkeypatch.setattr(ahead, "digest", lambda *_: "0" * 20)
    monkeypatch.setattr(ahead.clean, "__defaults__", ((), file.stat().st_size + 1))
    answer(AheadOfTime(folder))
    assert [one.name[:20] for one in folder.iterdir()] == ["0" * 20]
