# SPDX-License-Identifier: Apache-2.0
"""Whether a server's memory is flat: numbers in, sentences out."""

from __future__ import annotations

import statistics

MIB = 1 << 20
# What the memory may grow by from the warm-up to the end, by its trend: so much, or this part of it.
GROWTH_BYTES = 3 * MIB
GROWTH_PART = 0.05
# And no sample may be further above the median: a load that is made at random has peaks.
PEAK_BYTES = 8 * MIB
PEAK_PART = 0.5
# Samples are looked at in groups, by their median, so that a peak tilts no trend.
GROUPS = 20


def trend(samples: list[tuple[float, int]]) -> float:
    """Bytes by which memory grows from the first sample to the last, by least squares."""
    group = max(1, len(samples) // GROUPS)
    points = [
        (statistics.fmean(when for when, _ in part), statistics.median(size for _, size in part))
        for part in (samples[i : i + group] for i in range(0, len(samples), group))
    ]
    if len(points) < 2:
        return 0.0
    slope, _ = statistics.linear_regression(*zip(*points))
    return slope * (samples[-1][0] - samples[0][0])


def memory_faults(samples: list[tuple[float, int]]) -> list[str]:
    """`samples`: seconds, and bytes resident then, all after the warm-up."""
    if not samples:
        return ["its memory was never looked at"]
    faults = []
    median = statistics.median(size for _, size in samples)
    growth, limit = trend(samples), max(GROWTH_BYTES, GROWTH_PART * median)
    if growth > limit:
        faults.append(
            f"memory grew by {growth / MIB:.1f} MiB in {samples[-1][0] - samples[0][0]:.0f} s,"
            f" of {median / MIB:.1f}; at most {limit / MIB:.1f} is noise"
        )
    peak, limit = max(size for _, size in samples), median + max(PEAK_BYTES, PEAK_PART * median)
    if peak > limit:
        faults.append(f"memory had a peak of {peak / MIB:.1f} MiB, its median is {median / MIB:.1f}")
    return faults
