import resource
import shutil
import signal

import pytest


@pytest.fixture
def small_files():
    """Limit the size of every file of this process, as a full disk does: small_files(1000) bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def damage():
    """damage(folder, draws) -> what was done: one random corruption of one file in a folder."""
    return corrupt


def corrupt(folder, draws):
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    file = files[draws.integers(len(files))]
    data = bytearray(file.read_bytes())
    at, size = int(draws.integers(len(data))), int(draws.integers(1, 2000))
    kind = ("truncate", "flip", "delete", "duplicate", "swap", "digit", "zero")[draws.integers(7)]
    if kind == "truncate":
        file.write_bytes(data[:at])
    elif kind == "delete":
        file.unlink()
    elif kind == "duplicate":
        shutil.copy(file, file.with_name(f"copy-{file.name}"))
    else:
        if kind == "flip":
            data[at] ^= int(draws.integers(1, 256))
        elif kind == "swap":
            other = int(draws.integers(len(data)))
            data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
        elif kind == "zero":
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif digits := [n for n, byte in enumerate(data[:60_000]) if 48 <= byte <= 57]:
            at = digits[draws.integers(len(digits))]
            data[at] = 48 + (data[at] - 47) % 10
        file.write_bytes(data)
    return f"{kind} {file.relative_to(folder)} at {at}"
