"""Pictures and arrays that are given to a model: whatever is in a file, it is refused in one line that names it."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vidar.configs.shapes import world_shapes
from vidar.model.files import read_actions, read_picture
from vidar.types import VidarError

CONFIG = world_shapes(preset="tiny").method.world


def refused(read, path):
    with pytest.raises(VidarError) as error:
        read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def test_an_array_whose_header_is_no_python(tmp_path):
    """numpy reads the header as Python, and what comes of that is no ValueError."""
    file = tmp_path / "a.npy"
    np.save(file, np.zeros((4, 1), np.float32))
    data = file.read_bytes()
    for old, new in (
        (b"{'descr'", b"\xb9'descr'"),
        (b"(4, 1)", b"(4, 1 "),
        (b"'<f4'", b"'O'  "),
        (b"(4, 1)", b"(9**9)"),
    ):
        assert data.count(old) == 1
        file.write_bytes(data.replace(old, new))
        assert "not readable as .npy numbers" in refused(lambda path: read_actions(str(path), CONFIG), file)


def test_a_picture_of_a_size_that_no_memory_holds(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(file)
    data = file.read_bytes()
    head = b"IHDR" + struct.pack(">II", 1 << 30, 1 << 30) + data[24:29]
    file.write_bytes(data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:])
    assert "not readable as a picture (Image size" in refused(read_picture, file)


@pytest.mark.parametrize("seed", range(40))
def test_random_damage(tmp_path, seed):
    draws = np.random.default_rng(seed)
    picture, array = tmp_path / "a.png", tmp_path / "a.npy"
    Image.fromarray(draws.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(picture)
    np.save(array, np.zeros((4, 1), np.float32))
    for file, read in ((picture, read_picture), (array, lambda path: read_actions(str(path), CONFIG))):
        data = bytearray(file.read_bytes())
        for at in draws.integers(0, 130, 3):
            data[at : at + 4] = (bytes(4), b"\xff\xff\xff\xff", draws.bytes(4), b"")[draws.integers(4)]
        file.write_bytes(data)
        try:
            assert isinstance(read(file), np.ndarray)
        except VidarError as error:
            assert str(file) in str(error) and "\n" not in str(error)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    assert "is not a regular file" in refused(read_picture, tmp_path / "a.png")
    assert "is not a regular file" in refused(lambda path: read_actions(str(path), CONFIG), tmp_path / "a.png")
