"""A* over assignments: space, kernel, guides."""
