"""`boxsession connect`: the console's client, for people and for scripts. Imports neither gevent nor the server."""
