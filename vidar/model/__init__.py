"""Video models: configs, loading and saving, streaming, generation."""
