"""Settings: their table, the reader of config files, and changes in a running server."""
