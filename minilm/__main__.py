"""`python -m minilm` is the command `minilm`."""

import sys

from minilm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
