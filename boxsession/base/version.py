"""The version. setup.cfg and the greeting read it from here."""
__version__ = '0.1.0'
