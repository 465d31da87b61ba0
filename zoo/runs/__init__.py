"""Running recipes: one run, a table over several seeds, a search, and tables of results."""
