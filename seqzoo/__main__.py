"""``python -m seqzoo``: the command line."""

# In the repository the folder stands beside this package: installation maps it to seqzoo.zoo.
from seqzoo.zoo.cli import main  # pyright: ignore[reportMissingImports]

main()
