"""Training methods: step(model, batch, rng) -> Loss."""
