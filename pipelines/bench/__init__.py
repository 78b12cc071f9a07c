"""Solvers and peers on published instances, side by side."""
