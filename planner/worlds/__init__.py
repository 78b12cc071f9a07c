"""Where time passes and the true run times are known: replays and executions."""
