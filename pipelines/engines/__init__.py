"""What carries plans out: one interface, and the engines behind it."""
