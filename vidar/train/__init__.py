"""Training: engine, loop, checkpoints, data sets and methods."""
