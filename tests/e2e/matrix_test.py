#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A part of the matrix (tests/matrix) over the lab's link: each engine with each TLS library."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "matrix"))
from cells import test_tour  # noqa: E402
from lab import root_borrow  # noqa: E402

root_borrow()
sys.exit(test_tour(netem=False, zerocopy=("auto", "on")))
