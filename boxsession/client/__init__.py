"""`boxsession connect`: the client of the console, interactive and for scripts. Imports neither gevent nor the server."""
