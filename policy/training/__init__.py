"""Training: the trainer, its settings, batches and the EMA of the weights."""
