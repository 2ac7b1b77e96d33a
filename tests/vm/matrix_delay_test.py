#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A part of the matrix (tests/matrix) over netem: each engine, library and kind of kernel TLS."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "matrix"))
from cells import test_tour  # noqa: E402

sys.exit(test_tour(netem=True, zerocopy=("on",)))
