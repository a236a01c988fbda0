"""Recordings whose frames say their own number, with tables that say it too."""

from fractions import Fraction

import av
import numpy as np

from vidar.actions import Action, ActionSpec
from vidar.data.convert import Conversion, convert_folder
from vidar.data.reader import episodes

NUMBER = ActionSpec(actions=(Action(name="number", kind="choice", size=5000),))


def numbered(count, height=32, width=64):
    """uint8 [count, height, width, 3]: the frame number in 16 black or white bars; survives any compression."""
    bits = (np.arange(count)[:, None] >> np.arange(16)) & 1
    return (
        np.repeat((bits * 255).astype(np.uint8), width // 16, axis=1)[:, None, :, None].repeat(height, 1).repeat(3, 3)
    )


def numbers(frames):
    bar = frames.shape[2] // 16
    bits = frames[:, frames.shape[1] // 2, bar // 2 :: bar, 1] > 127
    return (bits * (1 << np.arange(16))).sum(1).tolist()


def recording(file, times, table=None, height=32, width=64):
    """A video with frame n at times[n] milliseconds, and a table (default: row n says n)."""
    file.parent.mkdir(exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"preset": "ultrafast", "bf": "0", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time, picture in zip(times, numbered(len(times), height, width)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rows = "number\n" + "".join(f"{n}\n" for n in range(len(times)))
    file.with_suffix(".csv").write_text(rows if table is None else table)


def converted(folder, out, split="train", *, spec=NUMBER, how=None, **options):
    """The episodes after a conversion."""
    convert_folder(folder, out, Conversion(spec=spec, **options), split, **(how or {}))
    return list(episodes(out, split))


def every(count, step=50):
    """The times of `count` frames, `step` milliseconds apart."""
    return [n * step for n in range(count)]
