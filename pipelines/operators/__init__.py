"""What operators ask for: which limits to request, when a job starts; read-only."""
