"""Engine, loop, checkpoints and training methods."""
