"""Runs child interpreters: pipes between them, exit codes, signals, timeouts, environments, working directories."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap

UPPER = "import sys\nfor line in sys.stdin: sys.stdout.write(line.upper())"
NUMBER = "import sys\nfor n, line in enumerate(sys.stdin, 1): sys.stdout.write(f'{n}:{line}')"


def python(code, *args, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, **options)


def chain(text):
    first = subprocess.Popen([sys.executable, "-c", UPPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    second = subprocess.Popen([sys.executable, "-c", NUMBER], stdin=first.stdout, stdout=subprocess.PIPE)
    first.stdout.close()
    first.stdin.write(text.encode())
    first.stdin.close()
    out = second.stdout.read().decode()
    return out, first.wait(), second.wait()


def main():
    print(chain("one\ntwo\nthree\n"))
    done = python("import sys; print(sys.argv[1:]); print('oops', file=sys.stderr); sys.exit(9)", "a b", "ü")
    print(done.returncode, done.stdout.strip(), done.stderr.strip())
    killed = python("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)")
    print(signal.Signals(-killed.returncode).name)
    failed = python("raise KeyError('missing')")
    print(failed.returncode, failed.stderr.splitlines()[-1])
    try:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.3, check=False)
    except subprocess.TimeoutExpired as error:
        print("timeout", error.cmd[2])
    with tempfile.TemporaryDirectory() as directory:
        code = "import os; print(os.path.basename(os.getcwd()).startswith('tmp'), sorted(os.environ))"
        print(python(code, cwd=directory, env={"ONLY": "this", "LC_CTYPE": "C.UTF-8"}).stdout.strip())
    listing = subprocess.check_output([sys.executable, "-m", "this"], text=True)
    print(listing.splitlines()[0])
    reader, writer = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", f"import os; os.write({writer}, b'by fd')"], pass_fds=[writer])
    os.close(writer)
    print(os.read(reader, 100), child.wait())


main()
