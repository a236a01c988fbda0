"""TrigFlow and rectified flow are the same path: x_t = cos t x0 + sin t e is x_s = (1 - s) x0 + s e, scaled.

t = arctan(s / (1 - s)) in [0, pi/2], and x_s = x_t / (cos t + sin t) (after the code of rCM; sCM: Lu and Song,
"Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models", 2024). The data should have about unit
standard deviation, as normalised latents have.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Net = Callable[[Tensor, Tensor], Tensor]  # x [.., C], level or time [.., 1] -> [.., C]


def level_of(time: Tensor) -> Tensor:
    """Time t in [0, pi/2] -> s = sin t / (sin t + cos t)."""
    return time.sin() / (time.sin() + time.cos())


def trigflow(velocity: Net) -> Net:
    """From v(x_s, s) to F(x_t, t), which is dx_t/dt if v is exact, and gives x0 = cos t x_t - sin t F.

    F = ((cos t - sin t) x_t + v) / (cos t + sin t): this is (cos t x_t - x0) / sin t with x0 = x_s - s v, without the
    division by sin t, which is small at low noise.
    """

    def call(x: Tensor, time: Tensor) -> Tensor:
        cos, sin = time.cos(), time.sin()
        total = cos + sin
        return ((cos - sin) * x + velocity(x / total, sin / total)) / total

    return call


def data_of(x: Tensor, time: Tensor, slope: Tensor) -> Tensor:
    """x_t [.., C], t [.., 1] and F [.., C] -> x0 = cos t x_t - sin t F."""
    return time.cos() * x - time.sin() * slope
