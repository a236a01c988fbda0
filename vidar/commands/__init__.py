"""The commands, in groups; each is a thin wrapper of the library."""
