"""A trained world: load, save, stream, generate."""
