"""The whole problem as models for CP-SAT, and their solver."""
