"""``python -m mmskip`` is the console command ``mmskip``."""

import sys

from mmskip.cli import main

if __name__ == '__main__':
    sys.exit(main())
