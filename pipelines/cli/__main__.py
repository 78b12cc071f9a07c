"""``python -m plancast.pipelines.cli``: the same as the ``plancast`` command."""

from plancast.pipelines.cli import main

if __name__ == "__main__":
    main()
