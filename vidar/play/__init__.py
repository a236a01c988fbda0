"""Play: the world as an environment, players at a table, recordings, the web server and its page."""
