"""State: rings, journal, mark and rewind; eviction policies."""
