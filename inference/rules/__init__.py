"""Learning rules: each fills ``.grad`` on a network's parameters, or learns in closed form."""
