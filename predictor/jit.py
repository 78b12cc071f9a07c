"""The decorators of the predictor's kernels; see ``plancast.jit``."""

from __future__ import annotations

from pathlib import Path

from plancast.jit import Kernels

KERNELS = Kernels(Path(__file__).parent)
kernel, brief, inner = KERNELS.kernel, KERNELS.brief, KERNELS.inner
