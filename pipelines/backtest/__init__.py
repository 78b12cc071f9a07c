"""Forecasts and dispatchers judged on logs that are replayed."""
