"""The writing thread: order, a bounded queue, errors that come back."""

import threading

import pytest

from vidar.synth.encoder import Encoder


def test_what_waits_is_bounded_and_comes_in_order():
    written, go, handed = [], threading.Semaphore(0), []

    def write(item):
        go.acquire()
        written.append(item)

    encoder = Encoder(write, room=2)

    def hand_over():
        for n in range(9):
            encoder.put(n)
            handed.append(n)

    producer = threading.Thread(target=hand_over)
    producer.start()
    for count in range(9):
        producer.join(0.05)
        assert count <= len(handed) <= count + 3  # two wait, one is in work
        go.release()
        while len(written) <= count:
            pass
    producer.join()
    encoder.close()
    assert written == list(range(9))


def test_an_error_comes_back_and_nothing_hangs():
    def write(item):
        raise OSError(f"disk full at {item}")

    encoder = Encoder(write, room=1)
    with pytest.raises(OSError, match="disk full at 0"):
        for n in range(5):
            encoder.put(n)
    with pytest.raises(OSError, match="disk full at 0"):
        encoder.close()
    encoder.abandon()
