"""Real-time play (not built yet): environment, session, server, window."""
