"""Programs that look for a way out: every family, every entry, every socket that the host might have left open."""

from __future__ import annotations

from tests.hostile.cases import attack

THEME = "network"
GOOD_FAITH = ("unspec", "inet", "inet6", "netlink")
OWN_STACK = "gVisor has a network stack of its own, with a loopback and nothing behind it"
NOTHING = ("ENETUNREACH", "EHOSTUNREACH", "EPERM", "EACCES", "ENODEV", "EADDRNOTAVAIL", "ECONNREFUSED", "TimeoutError")

FAMILIES = """
import socket
for family in range(46):
    if family in (0, 1, 2, 10, 16): continue
    for kind in (1, 2, 3, 5):
        sacrifice(f"{family}", lambda: call(NUMBER, family, kind, 0, ctypes.byref((ctypes.c_int * 2)())))
        if probes[f"{family}"] not in REFUSED: break
got = {name: value for name, value in probes.items() if value not in REFUSED}
probes.clear()
probes["got"] = ",".join(got)
"""
REFUSALS = """
REFUSED = ("SIGSYS", "EPERM", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EINVAL", "EACCES",
            "ENOTSUP")
"""

attack(
    THEME,
    "the families that programs ask for in good faith",
    """
import socket
for name, family in {"unspec": 0, "inet": 2, "inet6": 10, "netlink": 16}.items():
    sacrifice(name, lambda: call(41, family, 2, 0))
""",
    probes=dict.fromkeys(GOOD_FAITH, "EPERM"),
    events="network_attempt",
    hardened={
        "events": "",
        "probes": {
            "unspec": "EAFNOSUPPORT",
            **dict.fromkeys(("inet", "inet6", "netlink"), ("3", "4", "5", "6", "EPROTONOSUPPORT")),
        },
    },
    because=OWN_STACK,
)
attack(
    THEME,
    "every other family",
    REFUSALS + FAMILIES.replace("NUMBER", "41"),
    limits={"wall_seconds": 20},
    probes={"got": ""},
    events="seccomp_violation",
    hardened={
        "events": "",
        "probes": {"got": ("", "17")},
        "source": REFUSALS + FAMILIES.replace("NUMBER", "41").replace("sacrifice", "attempt"),
    },
    because=OWN_STACK + "; nothing is killed there, so that no child is needed",
)
attack(
    THEME,
    "pairs of every family",
    REFUSALS + FAMILIES.replace("NUMBER", "53"),
    limits={"wall_seconds": 20},
    probes={"got": ""},
    events="seccomp_violation",
    hardened={"events": "", "source": REFUSALS + FAMILIES.replace("NUMBER", "53").replace("sacrifice", "attempt")},
    because=OWN_STACK + "; nothing is killed there, so that no child is needed",
)
attack(
    THEME,
    "requests that leave",
    """
import socket, urllib.request
attempt("http", lambda: urllib.request.urlopen("http://192.0.2.1/", timeout=1))
attempt("name", lambda: socket.getaddrinfo("example.org", 80))
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender: sender.sendto(b"x", ("192.0.2.1", 53))
attempt("datagram", datagram)
def metadata():
    with socket.create_connection(("169.254.169.254", 80), 1): pass
attempt("metadata", metadata)
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
""",
    probes={
        "http": "URLError",
        "name": ("gaierror", "None"),
        "datagram": "EPERM",
        "metadata": "EPERM",
        "raw": "EPERM",
    },
    events="network_attempt",
    hardened={
        "events": "",
        "probes": {
            "http": ("URLError", "TimeoutError"),
            "name": "gaierror",
            "datagram": NOTHING,
            "metadata": NOTHING,
            "raw": ("EPERM", "EACCES"),
        },
    },
    because=OWN_STACK,
)
ENTER = """
import mmap, struct
def enter(number, a=0, b=0, c=0):
    # push rbx; load eax, ebx, ecx and edx; int 0x80; pop rbx; ret
    words = [struct.pack("<i", word) for word in (number, a, b, c)]
    code = b"\\x53\\xb8%b\\xbb%b\\xb9%b\\xba%b\\xcd\\x80\\x5b\\xc3" % tuple(words)
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    result = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return "refused" if result < 0 else "answered"
"""
attack(
    THEME,
    "sockets by the 32-bit entry",
    ENTER
    + """
for name, family in {"inet": 2, "netlink": 16, "packet": 17, "alg": 38, "vsock": 40}.items():
    sacrifice(name, lambda: enter(359, family, 2, 0))
sacrifice("socketcall", lambda: enter(102, 1, 0))
sacrifice("getpid", lambda: enter(20))
""",
    probes=dict.fromkeys(("inet", "netlink", "packet", "alg", "vsock", "socketcall", "getpid"), "SIGSYS"),
    events="seccomp_violation",
    hardened={
        "events": "",
        "probes": {
            **dict.fromkeys(("inet", "netlink", "packet", "alg", "vsock"), ("SIGSYS", "SIGSEGV", "SIGTRAP", "refused")),
            **dict.fromkeys(("socketcall", "getpid"), ("SIGSYS", "SIGSEGV", "SIGTRAP", "refused", "answered")),
        },
    },
    because="gVisor's ptrace platform takes the number for a 64-bit one (102 is getuid), and has none of that height",
)
attack(
    THEME,
    "sockets by the x32 numbers",
    """
sacrifice("socket", lambda: call(0x40000000 | 41, 2, 2, 0))
sacrifice("getpid", lambda: call(0x40000000 | 39))
""",
    probes={"socket": "SIGSYS", "getpid": "SIGSYS"},
    events="seccomp_violation",
    hardened={"events": "", "probes": {"socket": ("ENOSYS", "EPERM"), "getpid": ("ENOSYS", "EPERM")}},
    because="gVisor does not know these numbers",
)
attack(
    THEME,
    "sockets that the host listens on",
    """
import glob, socket
PATHS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/redis/redis.sock",
         "/run/systemd/private", "/run/dbus/system_bus_socket", "/tmp/redis.sock", "/proc/1/root/run/docker.sock")
def connect(address):
    with socket.socket(socket.AF_UNIX) as client: client.connect(address)
results = {outcome(lambda: connect(path)) for path in PATHS}
results |= {outcome(lambda: connect("\\0" + name)) for name in ("/containerd-shim/x", "/tmp/dbus-x", "snapd", "mayfly")}
probes["paths"] = ",".join(sorted(results - {"ENOENT", "EACCES", "ECONNREFUSED"}))
found = []
for directory, _, names in os.walk("/"):
    if directory.startswith(("/proc", "/sys")): continue
    for name in names:
        path = os.path.join(directory, name)
        if os.path.exists(path) and (os.stat(path).st_mode & 0o170000) == 0o140000: found.append(path)
probes["sockets"] = ",".join(found)
probes["listening"] = str(len(open("/proc/net/unix").readlines()) - 1)
""",
    probes={"paths": "", "sockets": "", "listening": "0"},
    aims_at="containers",
)
attack(
    THEME,
    "interfaces and routes",
    """
probes["interfaces"] = ",".join(sorted(os.listdir("/sys/class/net")))
probes["routes"] = str(len(open("/proc/net/route").readlines()) - 1)
probes["neighbours"] = str(len(open("/proc/net/arp").readlines()) - 1)
""",
    probes={"interfaces": "lo", "routes": "0", "neighbours": "0"},
)
attack(
    THEME,
    "a listener for connections from outside",
    """
import socket
def listen(family, address):
    with socket.socket(family) as server: server.bind(address), server.listen()
sacrifice("inet", lambda: listen(socket.AF_INET, ("0.0.0.0", 8000)))
sacrifice("vsock", lambda: listen(40, (2**32 - 1, 9000)))
sacrifice("bluetooth", lambda: listen(31, ("", 1)))
""",
    probes={"inet": "EPERM", "vsock": "SIGSYS", "bluetooth": "SIGSYS"},
    events="network_attempt seccomp_violation",
    hardened={"events": "", "probes": {"inet": "done", "vsock": "EAFNOSUPPORT", "bluetooth": "EAFNOSUPPORT"}},
    because=OWN_STACK,
)
