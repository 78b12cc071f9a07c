"""Slow twins: dull, separate code that the fast code is compared with."""
