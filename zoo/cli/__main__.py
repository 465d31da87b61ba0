"""``python -m seqzoo.zoo.cli``."""

from . import main

main()
