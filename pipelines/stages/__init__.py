"""The pipeline's stages, each a command of its own."""
