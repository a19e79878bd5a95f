"""Values between Lua, Python and clients: packed strings, and their forms as YAML, Lua text and msgpack."""
