"""What is left of a picture in yuv420p, and how near two pictures are."""

import av
import numpy as np

from vidar.play import codec


def halved(frame):
    """A frame with half its colour in each direction, which is all that yuv420p keeps."""
    half = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p", interpolation=codec._EXACT)
    return half.reformat(format="rgb24", interpolation=codec._EXACT).to_ndarray()


def psnr(one, other):
    """Of two pictures, uint8, in dB."""
    error = np.square(one.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
