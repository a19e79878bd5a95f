"""python -m boxsession"""
import sys

from boxsession.cli import main

sys.exit(main())
