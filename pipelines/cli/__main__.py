"""``python -m pipelines.cli``: the same as the ``plancast`` command."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
