"""``python3 fresh.py program arguments`` behaves like ``python3 program arguments``, with live output.

It serves programs that cannot be forked from the agent's interpreter: their environment variables take effect at an
interpreter's start, or a module beside them has the name of a module that the agent has loaded. This module does not
import ``__future__``, and its imports write no byte code: with PYTHONPYCACHEPREFIX a program would see both.
"""

import atexit
import os
import sys

WRITES_NONE, sys.dont_write_bytecode = sys.dont_write_bytecode, True
HERE = os.path.dirname(os.path.abspath(__file__))
TYPE_CHECKING = False  # see channel.py
if TYPE_CHECKING:
    from sandbox_image.agent.program import ending, interpreter, live_output, main_program
else:
    if not sys.flags.safe_path:
        sys.path.pop(0)  # of this file
    sys.path.insert(0, HERE)
    import ending
    import interpreter
    import live_output
    import main_program

    sys.path_importer_cache.pop(sys.path.pop(0), None)
sys.dont_write_bytecode = WRITES_NONE
TOOL_ENDS = (14, 15)  # see program.py


def main(program: list[str]) -> main_program.Leaving:
    """Have the program run once this module has ended with the given exception."""
    path = program[0]
    for end in TOOL_ENDS:
        try:  # noqa: SIM105 - contextlib would have to be loaded
            os.set_inheritable(end, False)  # no process that the program executes gets them
        except OSError:
            pass  # it has no tools
    stream = main_program.opened(path)
    if not stream:
        os.execv(sys.executable, [sys.executable, *program])  # Python's own message is the right one
    atexit.register(ending.leave_in_place)
    interpreter.load(())  # modules loaded so far are left in place at the end
    interpreter.renew_main_module()
    interpreter.set_command_line(path, program, [sys.orig_argv[0], *program])
    live_output.prepare()
    live_output.begin()  # the agent cannot wake the thread: it shares no memory with another interpreter
    return main_program.prepare(path, stream)


if __name__ == "__main__":
    raise main(sys.argv[1:])
