"""Commands that end with this process: the kernel kills them when this process dies, even by SIGKILL.

The kernel sends the signal only for a death after ``setpriv`` has asked for it. So a command starts only if this
process is still its parent at that time; a later death is followed by the signal.
"""

from __future__ import annotations

import os
import sys

IF_PARENT_LIVES = "import os, sys; os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])"


def tied() -> tuple[str, ...]:
    """The prefix of a command, which this process starts itself; ``setpriv`` is of util-linux."""
    parent_check = (sys.executable, "-I", "-S", "-c", IF_PARENT_LIVES, str(os.getpid()))
    return ("setpriv", "--pdeathsig", "KILL", "--", *parent_check)
