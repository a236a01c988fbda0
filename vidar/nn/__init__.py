"""Backbones and their parts."""
