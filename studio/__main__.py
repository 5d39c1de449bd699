"""`python -m studio`: the studio from a shell."""

from __future__ import annotations

import os
import signal
import sys

from studio.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: a verb stops its job and says how to go on
    code = main()
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has ended, as `| head` does; Python would complain when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
