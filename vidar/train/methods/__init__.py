"""Training methods: `step(model, batch, rngs, ranks) -> Loss`."""
