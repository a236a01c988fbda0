"""Tokenizers: video to codes and back."""
