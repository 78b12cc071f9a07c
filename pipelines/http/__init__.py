"""A planner over HTTP: requests answered, a cluster's state and plan held, a scheduler extended."""
