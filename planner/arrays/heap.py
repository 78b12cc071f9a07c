"""Binary heaps in three arrays: key and rank, by which items are ordered, and the item itself."""

from __future__ import annotations

from plancast.planner.arrays.jit import inner


@inner
def push(key, rank, item, size, new_key, new_rank, new_item):
    """Put an item into a heap of `size` items, least (key, rank) first.

    Parameters
    ----------
    key, rank, item : array (room,)
        With room for one item more; ranks are distinct, so that the order is total.
    """
    k = size
    while k > 0:
        up = (k - 1) >> 1
        if key[up] < new_key or (key[up] == new_key and rank[up] <= new_rank):
            break
        key[k], rank[k], item[k] = key[up], rank[up], item[up]
        k = up
    key[k], rank[k], item[k] = new_key, new_rank, new_item


@inner
def pop(key, rank, item, size):
    """Take the least item, which is the first, out of a heap of `size` items."""
    last = size - 1
    moved_key, moved_rank, moved_item = key[last], rank[last], item[last]
    k = 0
    while True:
        down = 2 * k + 1
        if down >= last:
            break
        other = down + 1
        if other < last and (
            key[other] < key[down] or (key[other] == key[down] and rank[other] < rank[down])
        ):
            down = other
        if key[down] > moved_key or (key[down] == moved_key and rank[down] >= moved_rank):
            break
        key[k], rank[k], item[k] = key[down], rank[down], item[down]
        k = down
    key[k], rank[k], item[k] = moved_key, moved_rank, moved_item
