"""The engine proxy: the one process that has the container engine's socket, and the calls that it lets a worker make.

Theory of operation. The engine's socket is as good as root on its host. So under compose and systemd no worker has it:
the proxy listens on a Unix socket of its own, and workers talk to that. ``calls.py`` has the list of permitted calls,
``bodies.py`` builds the body of each creation anew from the few values that may differ, ``binds.py`` checks what the
engine mounts, ``containers.py`` knows whose a container is. The engine receives only bytes that the proxy wrote itself,
and, once a container's mounts are verified, the bytes of its standard input. Every other call is answered 403, logged,
counted and reported as a security event (``reporting.py``).

One thread for each connection, and one more while it carries a container's stream (``serving.py``).
"""
