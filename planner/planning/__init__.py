"""From request to response: plan, preempt, repair, control, weigh risk, draw."""
