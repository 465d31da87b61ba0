"""The models, one architecture a file."""
