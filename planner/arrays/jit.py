"""The decorators of the planner's kernels; see ``plancast.jit``."""

from __future__ import annotations

from pathlib import Path

from plancast.jit import Kernels

KERNELS = Kernels(Path(__file__).parents[1])
kernel, brief, inner = KERNELS.kernel, KERNELS.brief, KERNELS.inner
interpreted, cache_folder = KERNELS.interpreted, KERNELS.cache_folder
