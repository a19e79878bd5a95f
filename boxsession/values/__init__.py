"""Values that leave Lua, and what they become for clients."""
