"""The documentation as HTML: sphinx-build -W -b html docs docs/_build"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from boxsession.base.version import __version__

project = 'boxsession'
author = 'the boxsession authors'
version = release = __version__

# No extensions: the pages must also be readable as plain rst.
extensions = []
exclude_patterns = ['_build']
nitpicky = True
highlight_language = 'none'

html_theme = 'alabaster'
html_theme_options = {'description': 'A multi-client admin console for gevent programs', 'page_width': '70rem'}
html_copy_source = False
html_show_copyright = False
