# SPDX-License-Identifier: Apache-2.0
"""Weir's numbers against the goals: ratios, round by round, and whether they are met."""
import dataclasses

import harness
from workloads import ALONE, BARE_LOOP, BEST, H2O

# Below this share of the CPU the server waited for the client: a rate then says little about it.
BUSY_MIN = 0.9


def best_of(rows, kind, metric, at_least):
    """The row of that kind with the best median, or None."""
    there = [row for row in rows if row["kind"] == kind and metric in row]
    pick = max if at_least else min
    return pick(there, key=lambda row: row[metric]["median"]) if there else None


def row_against(goal, rows):
    if goal.against == BEST:
        return best_of(rows, harness.PEER, goal.metric, goal.at_least)
    if goal.against == BARE_LOOP:
        return best_of(rows, harness.LIMIT, goal.metric, goal.at_least)
    return next((row for row in rows if row["server"] == H2O), None)


def ratios(runs, against):
    return harness.Spread.of([one / other for one, other in zip(runs, against)])


def evaluate(goal, rows):
    """None if there is nothing to compare with."""
    against = None if goal.against == ALONE else row_against(goal, rows)
    if goal.against != ALONE and against is None:
        return None
    results = []
    for row in rows:
        if row["kind"] != harness.WEIR or goal.metric not in row:
            continue
        base = row["alone_us"] if against is None else against[goal.metric]
        ratio = ratios(row[goal.metric]["runs"], base["runs"])
        met = ratio.median >= goal.bound if goal.at_least else ratio.median <= goal.bound
        waited = goal.at_least and "busy" in row and row["busy"]["median"] < BUSY_MIN
        results.append({"server": row["server"], "ratio": vars(ratio), "met": met,
                        "client_bound": bool(waited)})
    return dataclasses.asdict(goal) | {"text": goal.text(), "results": results,
                                       "against_server": against and against["server"]}


def evaluate_all(workload, rows):
    return [found for goal in workload.goals if (found := evaluate(goal, rows))]
