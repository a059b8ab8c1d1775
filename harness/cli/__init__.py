"""The command line: one file per verb."""

from __future__ import annotations

import os
import platform

if platform.machine() in ("x86_64", "AMD64"):
    # A second thread of numpy's BLAS would wait in a loop beside the small products of intervals:
    # a third of what a table costs. Read once, when numpy is imported; torch has a BLAS of its own
    # here, elsewhere it may share this one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
