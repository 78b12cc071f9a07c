"""The lintel: the only package that knows both columns, and files, argv, MLflow and HTTP."""
