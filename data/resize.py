"""Change the size of frames: crop to the aspect ratio, then average."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resized_crop(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [T, H, W, 3] -> uint8 [T, height, width, 3]: the largest centred box of that aspect ratio, averaged."""
    if frames.shape[1:3] == size:
        return frames
    return np.stack([resized_crop_frame(frame, size) for frame in frames])


def resized_crop_frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`resized_crop` of one frame: uint8 [H, W, 3] -> uint8 [height, width, 3]."""
    (height, width), (old_height, old_width) = size, frame.shape[:2]
    if (old_height, old_width) == size:
        return frame
    scale = min(old_height / height, old_width / width)
    left, top = (old_width - scale * width) / 2, (old_height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    how = Image.Resampling.BOX if scale >= 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(frame).resize((width, height), how, box=box))
