"""The one door between the friendly types and the fast arrays, and what all kernels share."""
