"""The trainer: data, optimiser, loop, checkpoints, pictures."""
