"""Recorders, synthetic worlds, video IO, shards, validation and loading."""
