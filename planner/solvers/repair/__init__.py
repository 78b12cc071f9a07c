"""The plan in force with no more changes than needed."""
