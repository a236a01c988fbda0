"""Rollouts: the driver that generates frames with any System, and its hooks."""
