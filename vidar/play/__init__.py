"""Play: the world as an environment, players of an engine, recordings, the web server and its page."""
