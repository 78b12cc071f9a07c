"""Snapshot and estimates in, plan out, judged by one evaluator."""
