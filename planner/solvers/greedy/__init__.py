"""List scheduling by priority rules."""
