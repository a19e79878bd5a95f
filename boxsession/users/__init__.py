"""Users, passwords and rights."""
