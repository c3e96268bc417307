"""Classes of series that are made up: shapes, bumps, oscillations, switches, and noise of a kind.

A task is five classes of one family, more or less alike, of one length and number of channels.
Rows of a class differ as series do: warped, shifted, scaled, drifting, noisy, cut short.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Rng = np.random.Generator

#: Points of a shape before it is warped and resampled.
DENSE = 512
#: Lengths of series, of one channel and of several.
LENGTHS, SHORT = (16, 300), 100
N_WAY, N_ROWS = 5, 10


def smooth(n: int, n_times: int, finest: float, rng: Rng) -> Array:
    """Random smooth series, of waves down to a share of their length."""
    k = np.arange(1, max(2, int(1 / finest)) + 1)
    a = rng.normal(size=(2, n, len(k))) / k ** rng.uniform(0.3, 1.2)
    t = np.outer(k, np.linspace(0, 1, n_times))
    x = a[0] @ np.cos(np.pi * t) + a[1] @ np.sin(2 * np.pi * t)
    return x / (x.std(1, keepdims=True) + 1e-9)


def noise(n: int, n_times: int, memory: float, rng: Rng) -> Array:
    """First-order autoregressive series."""
    x = rng.normal(size=(n, n_times))
    for i in range(1, n_times):
        x[:, i] += memory * x[:, i - 1]
    return x / (x.std(1, keepdims=True) + 1e-9)


def warped(shape: Array, n: int, n_times: int, rng: Rng, by: float, shift: float, around: bool):
    """Copies of a dense shape, each warped and shifted; `around` joins its ends."""
    t = np.linspace(0, 1, n_times)
    bend, start = rng.normal(0, by, (2, n, 1)), rng.uniform(0, 2 * np.pi, (n, 1))
    at = t + bend[0] * np.sin(np.pi * t)
    at = at + bend[1] * (np.sin(2 * np.pi * t + start) - np.sin(start))
    at = at + rng.uniform(-shift, shift, (n, 1))
    at = at % 1 if around else np.clip(at, 0, 1)
    return np.interp(at, np.linspace(0, 1, len(shape)), shape)


# ------------------------------------------------------------------ families: how a class is made
def shapes(n_times: int, near: float, rng: Rng) -> Callable[[], Array]:
    """A curve, always at about the same time, or a closed outline from any point on."""
    finest = np.exp(rng.uniform(np.log(0.02), np.log(0.3)))
    base, local, around = smooth(1, DENSE, finest, rng)[0], rng.random() < 0.5, rng.random() < 0.5
    by, shift = rng.uniform(0, 0.06), 0.5 if around else rng.choice([0, 0.02, 0.1])
    t = np.linspace(0, 1, DENSE)

    def of_class() -> Array:
        own = smooth(1, DENSE, finest, rng)[0]
        if local:
            own = 2 * own * np.exp(-0.5 * ((t - rng.random()) / rng.uniform(0.03, 0.2)) ** 2)
        return warped(base + near * own, N_ROWS, n_times, rng, by, shift, around)

    return of_class


def periodic(n_times: int, near: float, rng: Rng) -> Callable[[], Array]:
    """Waves of a shape and a frequency."""
    fading = np.arange(1, 6) ** 0.7
    often = np.exp(rng.uniform(0, np.log(max(2, n_times / 12))))
    base, by = rng.normal(size=(2, 5)) / fading, rng.uniform(0, 0.02)
    k = np.arange(1, 6)[:, None, None]

    def of_class() -> Array:
        own = base + near * rng.normal(size=(2, 5)) / fading
        cycles = often * np.exp(0.4 * near * rng.normal() + rng.normal(0, 0.03, (N_ROWS, 1)))
        at = warped(np.linspace(0, 1, DENSE), N_ROWS, n_times, rng, by, 0, False) * cycles
        at = 2 * np.pi * (at + rng.random((N_ROWS, 1)))
        return (
            own[0][:, None, None] * np.cos(k * at) + own[1][:, None, None] * np.sin(k * at)
        ).sum(0)

    return of_class


def bumps(n_times: int, near: float, rng: Rng) -> Callable[[], Array]:
    """A short shape, somewhere, once or more, on a ground that tells nothing."""
    ground, wide, often = rng.integers(3), rng.uniform(0.08, 0.4), rng.integers(1, 4)
    base, window = smooth(1, 64, 0.25, rng)[0], np.hanning(64)

    def of_class() -> Array:
        shape = (base + 1.5 * near * smooth(1, 64, 0.25, rng)[0]) * window
        shape /= shape.std()
        x = np.zeros((N_ROWS, n_times))
        if ground:
            x = noise(*x.shape, 0.9, rng) if ground == 1 else smooth(*x.shape, 0.2, rng)
            x = x * rng.uniform(0.1, 0.7)
        for row in x:
            for _ in range(often):
                long = int(np.clip(wide * n_times * rng.uniform(0.8, 1.25), 4, n_times))
                at = rng.integers(0, n_times - long + 1)
                seen = np.interp(np.linspace(0, 63, long), np.arange(64), shape)
                row[at : at + long] += seen * rng.uniform(0.8, 1.2)
        return x

    return of_class


def resonant(n_times: int, near: float, rng: Rng) -> Callable[[], Array]:
    """Second-order autoregressive series: noise of a frequency."""
    size, angle = rng.uniform(0.2, 0.95), rng.uniform(0, np.pi)

    def of_class() -> Array:
        r = np.clip(size + 0.3 * near * rng.normal(), 0.05, 0.98)
        a = np.clip(angle + 0.6 * near * rng.normal(), 0.02, np.pi - 0.02)
        x = rng.normal(size=(N_ROWS, n_times + 50))
        for i in range(2, x.shape[1]):
            x[:, i] += 2 * r * np.cos(a) * x[:, i - 1] - r * r * x[:, i - 2]
        return x[:, 50:]

    return of_class


def switched(n_times: int, near: float, rng: Rng) -> Callable[[], Array]:
    """Levels that last for a while, and a ripple."""
    lasting, ripple = rng.uniform(0.02, 0.3), rng.choice([0, 1]) * rng.uniform(0.05, 0.4)
    often = rng.uniform(0.02, 0.4)

    def of_class() -> Array:
        k = rng.integers(2, 4)
        levels, lasts = rng.normal(size=k), lasting * np.exp(near * rng.normal(size=k))
        loose, x = rng.uniform(0, 0.3), np.empty((N_ROWS, n_times))
        for row in x:
            at, j = -int(rng.uniform(0, lasts.sum()) * n_times), rng.integers(k)
            while at < n_times:
                long = max(1, int(lasts[j] * n_times * np.exp(rng.normal(0, 0.2))))
                row[max(at, 0) : max(at + long, 0)] = levels[j] + loose * rng.normal()
                at, j = at + long, (j + 1) % k
        start = rng.uniform(0, 2 * np.pi, (N_ROWS, 1))
        return x + ripple * np.sin(2 * np.pi * often * np.arange(n_times) + start)

    return of_class


def chirps(n_times: int, near: float, rng: Rng) -> Callable[[], Array]:
    """Waves whose frequency and amplitude change."""
    often, t = rng.uniform(1, n_times / 12 + 1), np.linspace(0, 1, n_times)

    def of_class() -> Array:
        f = often * np.exp(0.5 * near * rng.normal())
        change, swing, swings = rng.normal() * near * f, rng.random() * near, rng.uniform(1, 4)
        start = rng.uniform(0, 2 * np.pi, (2, N_ROWS, 1))
        at = (f * t + change * t * t / 2) * np.exp(rng.normal(0, 0.03, (N_ROWS, 1)))
        swell = 1 + swing * np.sin(2 * np.pi * swings * t + start[1])
        return swell * np.sin(2 * np.pi * at + start[0])

    return of_class


FAMILIES = (shapes, shapes, periodic, bumps, resonant, switched, chirps)


def one_channel(n_times: int, rng: Rng) -> Array:
    """Series (N_WAY * N_ROWS, n_times), class after class."""
    family = FAMILIES[rng.integers(len(FAMILIES))]
    of_class = family(n_times, rng.uniform(0.15, 1), rng)
    x = np.concatenate([of_class() for _ in range(N_WAY)])
    x = x * np.exp(rng.uniform(0, 0.3) * rng.normal(size=(len(x), 1)))
    drift = rng.choice([0, 1]) * rng.uniform(0, 0.5)
    x = x + drift * rng.normal(size=(len(x), 1)) * np.linspace(-1, 1, n_times)
    loud, memory = rng.choice([0, 1]) * rng.uniform(0.02, 0.5), rng.choice([0, 0.5, 0.9])
    return x + loud * x.std() * noise(*x.shape, memory, rng)


def made_task(rng: Rng) -> tuple[Array, Array]:
    """One task.

    Parameters
    ----------
    rng : Generator
        Draws it.

    Returns
    -------
    X : ndarray of shape (N_WAY * N_ROWS, n_times, n_channels)
        Series, which NaN may follow.
    y : ndarray of int
        Their classes.
    """
    n_times = int(np.exp(rng.uniform(*np.log(LENGTHS))))
    n_channels = 1 if rng.random() < 0.6 else int(rng.integers(2, 9))
    n_times = min(n_times, SHORT) if n_channels > 1 else n_times
    tells = rng.random(n_channels) < rng.uniform(0.3, 1)
    tells[0] = True
    y = np.repeat(np.arange(N_WAY), N_ROWS)
    parts = []
    for told in tells:
        x = one_channel(n_times, rng)
        if not told:
            x = rng.permutation(x)
        x = x - x.mean(1, keepdims=True) if rng.random() < 0.7 else x
        x = x / ((x.std(1, keepdims=True) if rng.random() < 0.6 else x.std()) + 1e-6)
        if rng.random() < 0.4:  # amplitude tells
            of_class = rng.uniform(0.1, 1) * rng.normal(size=N_WAY)[y]
            x = x * np.exp(of_class + rng.uniform(0.02, 0.4) * rng.normal(size=len(y)))[:, None]
        if rng.random() < 0.4:  # level tells
            of_class = rng.uniform(0.2, 3) * rng.normal(size=N_WAY)[y]
            x = x + (of_class + rng.uniform(0.05, 0.8) * rng.normal(size=len(y)))[:, None]
        parts.append(x * np.exp(rng.normal()))
    X = np.stack(parts, -1).astype(np.float32)
    if rng.random() < 0.25:  # of different length, which may tell
        share = rng.uniform(0.4, 0.9) + (rng.random() < 0.5) * 0.2 * rng.normal(size=N_WAY)[y]
        share = np.clip(share, 0.2, 1) * np.exp(0.15 * rng.normal(size=len(y)))
        for row, part in zip(X, share, strict=True):
            row[max(6, int(min(1, part) * n_times)) :] = np.nan
    return X, y
