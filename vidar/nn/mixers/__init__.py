"""Token mixers: attention (and, later, linear and state-space mixers)."""
