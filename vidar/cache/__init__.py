"""State: ring buffers, journal, mark and rewind; eviction policies."""
