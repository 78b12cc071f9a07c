"""Projects and shops: solvers for a short makespan."""
