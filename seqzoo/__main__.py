"""``python -m seqzoo``: the command line."""

from seqzoo.zoo.cli import main

main()
