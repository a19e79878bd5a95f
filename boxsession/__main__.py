"""`python -m boxsession`: the same as the command `boxsession`."""
import sys

from boxsession.cli import main

sys.exit(main())
