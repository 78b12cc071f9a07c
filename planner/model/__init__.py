"""What a plan is, and whether it is valid and what it costs."""
