"""Steps from one schema of a master's state to the next, by alembic; see ``tables``."""
