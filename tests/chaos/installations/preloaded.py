"""The imports of the process that forks workers: workers, brokers, tool servers, and the kernel's own SIGTERM.

Coverage, where it is measured, handles SIGTERM in every Python process. Python drops a signal that reaches a forked
process before Python is set up there, so with that handler inherited a worker would live on. The kernel ends it.
"""

import signal

import tests.chaos.installations.tool_processes
import tests.chaos.installations.workers  # noqa: F401 - imported once, for all workers

signal.signal(signal.SIGTERM, signal.SIG_DFL)
