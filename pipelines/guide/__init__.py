"""Guides of the search, learned from solved problems."""
