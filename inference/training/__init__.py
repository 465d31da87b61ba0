"""The training loop: ``fit``, its state, checkpoints and processes."""
