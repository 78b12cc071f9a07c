"""Large-neighbourhood search: ruin and recreate."""
