"""How fast and how good, with the evidence for each limit."""
