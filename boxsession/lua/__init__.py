"""The Lua side: one shared Lua 5.1 state, its trusted files, and the only module that imports lupa."""
