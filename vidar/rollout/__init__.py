"""The one driver of every System, and its hooks."""
