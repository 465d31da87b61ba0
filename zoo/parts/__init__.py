"""Exchangeable parts of models: likelihoods, priors, guides, decoders, memories and nets."""
