"""What kernels do with rows of numbers, in loops: numba compiles them ten times as fast.

``target[:] = source`` takes it three seconds, for the sentence in which it would refuse arrays of
other shapes; ``max``, ``any`` and arithmetic of whole arrays take half a second each.
"""

from __future__ import annotations

from plancast.planner.arrays.jit import inner


@inner
def copy_into(target, source):
    """Write a row over the first places of another one that is at least as long."""
    for k in range(source.shape[0]):
        target[k] = source[k]


@inner
def largest(values):
    """The largest number of a row that has some."""
    most = values[0]
    for k in range(1, values.shape[0]):
        most = max(most, values[k])
    return most


@inner
def any_of(values):
    """Whether a number of a row is not zero."""
    for k in range(values.shape[0]):  # noqa: SIM110 (numba)
        if values[k] != 0:
            return True
    return False


@inner
def slowest(durations, pieces):
    """The longest duration where there are pieces."""
    most = durations[0] * 0
    for w in range(durations.shape[0]):
        if pieces[w] > 0:
            most = max(most, durations[w])
    return most
