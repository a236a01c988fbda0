"""Conditioners: modules that fill the four conditioning ports of the backbone."""
