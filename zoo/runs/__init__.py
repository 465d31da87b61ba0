"""Running recipes: one run, a table over several seeds, a search, and tables of results.

``recording_recipes`` makes recipes for recordings in files, ``recording_runs`` runs them.
"""
