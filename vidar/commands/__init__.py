"""The commands, one module per group; each command is a thin wrapper around the library."""
