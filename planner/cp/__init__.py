"""The whole problem as models for CP-SAT; ``solvers.cpsat`` solves them."""
