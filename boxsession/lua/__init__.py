"""The Lua side: one shared Lua 5.1 state, its trusted files, and the modules that import lupa."""
