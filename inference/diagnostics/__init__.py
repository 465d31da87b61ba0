"""Whether a posterior, a prediction or a chain can be trusted, and what a rule teaches."""
