"""Rates with their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from studio.reports.schema import Rate


def wilson(successes: int, n: int, confidence: float = 0.95) -> Rate:
    """The share successes / n with its Wilson score interval (Wilson 1927), by scipy.

    Unlike the plain normal interval it stays inside 0 … 1 and keeps a width at 0 of n.
    """
    from scipy.stats import binomtest  # half a second to import

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"A rate needs 0 <= successes <= n and n >= 1; got {successes} of {n}.")
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Rate(rate=successes / n, low=float(interval.low), high=float(interval.high), n=n)


def wilson_of(share: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The ends of the Wilson interval of a share of n, which need not be a whole number of them."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def rate_of(outcomes: Sequence[bool]) -> Rate:
    """The share of true outcomes, with its Wilson interval."""
    return wilson(sum(outcomes), len(outcomes))
