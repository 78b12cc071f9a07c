"""The master: collects what happens, asks the planner, starts tasks, and remembers all of it."""
