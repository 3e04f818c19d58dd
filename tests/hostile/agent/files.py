"""Programs that write to forbidden places, or search for hidden files."""

from __future__ import annotations

from tests.hostile.cases import LIMITS, attack

THEME = "files"
READ_ONLY = ("EROFS", "EACCES", "EPERM", "ENOENT")
OWN_FILES = "gVisor makes /proc and /sys itself, with fewer files and other errors"

attack(
    THEME,
    "write to the root",
    """
for path in ("/x", "/etc/x", "/etc/passwd", "/usr/bin/x", "/usr/bin/python3", "/usr/lib/x", "/var/x", "/root/x",
             "/home/x",
             "/dev/x", "/bin/x", "/lib/x", "/run/x", "/usr/lib/mayfly/environment.json", "/proc/x", "/sys/x"):
    attempt(path, lambda: os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
written = [path for path, value in probes.items() if value not in ("EROFS", "EACCES", "EPERM", "ENOENT", "ETXTBSY")]
probes.clear()
probes["written"] = ",".join(written)
for name, action in {"unlink": lambda: os.unlink("/etc/hostname"), "rename": lambda: os.rename("/etc", "/etc2"),
                     "link": lambda: os.link("/usr/bin/python3", "/tmp/p"), "chmod": lambda: os.chmod("/etc", 0o777),
                     "chown": lambda: os.chown("/usr/bin/python3", 0, 0), "times": lambda: os.utime("/etc/hostname"),
                     "truncate": lambda: os.truncate("/etc/hostname", 0)}.items():
    attempt(name, action)
""",
    probes={
        "written": "",
        "unlink": (*READ_ONLY, "EBUSY"),
        "rename": (*READ_ONLY, "EXDEV", "EBUSY"),
        "link": (*READ_ONLY, "EXDEV"),
        **dict.fromkeys(("chmod", "chown", "times", "truncate"), READ_ONLY),
    },
    aims_at="files",
)
attack(
    THEME,
    "write to /proc",
    """
for path in ("sys/kernel/core_pattern", "sys/kernel/hostname", "sys/kernel/modprobe", "sys/vm/overcommit_memory",
             "sys/fs/suid_dumpable", "sys/kernel/ns_last_pid", "sys/net/ipv4/ip_forward",
             "sys/kernel/randomize_va_space",
             "sysrq-trigger", "irq/default_smp_affinity", "mtrr", "acpi/wakeup", "self/uid_map", "self/gid_map",
             "self/setgroups", "self/oom_adj", "self/timens_offsets", "self/attr/exec"):
    def write():
        with open("/proc/" + path, "w") as file:
            if os.fstat(file.fileno()).st_rdev: raise PermissionError(13, "a device covers it")
            file.write("0 0 1" if "map" in path else "1")
    attempt(path, write)
allowed = [path for path, value in probes.items() if value == "done"]
probes.clear()
probes["written"] = ",".join(allowed)
def lower():
    with open("/proc/self/oom_score_adj", "w") as file: file.write("-1000")
attempt("the kernel's first victim", lower)
""",
    probes={"written": "", "the kernel's first victim": ("EACCES", "EPERM")},
    aims_at="sysctls",
    hardened={"probes": {"written": ("", "self/uid_map"), "the kernel's first victim": ("EACCES", "EPERM", "done")}},
    because=OWN_FILES + ", and its scores are its own",
)
attack(
    THEME,
    "anything at all to write in /proc and /sys",
    """
writable = set()
end = time.monotonic() + 8
for top in ("/proc", "/sys"):
    for directory, names, files in os.walk(top):
        if time.monotonic() > end: break
        if directory == "/proc": names[:] = [name for name in names if not name.isdigit() and "self" not in name]
        if os.access(directory, os.W_OK): writable.add(directory)
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path) or not os.access(path, os.W_OK): continue
            try: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            except OSError: continue
            if os.stat(path).st_rdev != os.makedev(1, 3): writable.add(path)  # masked paths are /dev/null
probes["writable"] = ",".join(sorted(writable)[:20])
""",
    probes={"writable": ""},
    limits=LIMITS,
    aims_at="sysctls",
    seconds=20,
    hardened={"probes": {"writable": ("",)}},
    because=OWN_FILES,
)
attack(
    THEME,
    "write to its cgroup",
    """
tried = 0
written = []
for name in ("memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.cfs_quota_us", "memory/cgroup.procs",
             "pids/tasks",
             "memory/release_agent", "memory/notify_on_release", "devices/devices.allow", "memory.max", "pids.max",
             "cgroup.procs", "cpu.max", "cgroup.subtree_control", "memory/memory.oom_control", "freezer/freezer.state"):
    path = "/sys/fs/cgroup/" + name
    try:
        with open(path, "w") as file: file.write("-1")
        written.append(name)
    except OSError: tried += 1
for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"):
    try: os.mkdir(place + "/mine"); written.append(place)
    except OSError: tried += 1
probes["written"] = ",".join(written)
probes["where"] = str(all(line.rstrip().endswith(":/") for line in open("/proc/self/cgroup")))
""",
    probes={"written": "", "where": "True"},
    aims_at="cgroups",
    hardened={"probes": {"written": "", "where": ("True", "False")}},
    because=OWN_FILES,
)
attack(
    THEME,
    "write to the inputs",
    """
actions = {
    "append": lambda: open("/inputs/data.txt", "a"), "unlink": lambda: os.unlink("/inputs/data.txt"),
    "create": lambda: open("/inputs/new", "w"), "through the link": lambda: open("/work/inputs/new", "w"),
    "rename": lambda: os.rename("/inputs/data.txt", "/inputs/x"), "chmod": lambda: os.chmod("/inputs/data.txt", 0o777),
    "hard link": lambda: os.link("/inputs/data.txt", "/output/x"), "times": lambda: os.utime("/inputs/data.txt"),
    "directory": lambda: os.mkdir("/inputs/d"), "replace": lambda: os.replace("/work/inputs", "/inputs"),
    "up": lambda: os.listdir("/inputs/../../sandboxes"),
    "through proc": lambda: open(f"/proc/self/fd/{os.open('/inputs/data.txt', os.O_RDONLY)}", "w"),
}
for name, action in actions.items(): attempt(name, action)
changed = [name for name, value in probes.items() if not value.startswith("E")]
probes.clear()
probes["changed"] = ",".join(changed)
probes["content"] = open("/inputs/data.txt").read()
""",
    files={"data.txt": "as it was"},
    probes={"changed": "", "content": "as it was"},
    aims_at="files",
)
attack(
    THEME,
    "files with privileges",
    """
found, capable = [], []
for directory, _, names in os.walk("/"):
    if directory.startswith(("/proc", "/sys")): continue
    for name in names:
        path = os.path.join(directory, name)
        mode = os.lstat(path).st_mode
        if mode & 0o6000 and not os.path.isdir(path): found.append(path)
        try: os.getxattr(path, "security.capability", follow_symlinks=False); capable.append(path)
        except OSError: pass
probes["setuid"], probes["capable"] = ",".join(found), ",".join(capable)
with open("/tmp/own", "wb") as file: file.write(open("/usr/bin/python3", "rb").read(1000))
os.chmod("/tmp/own", 0o6755)
sacrifice("own", lambda: os.execv("/tmp/own", ["own"]))
open("/work/own", "w").close()
attempt("capability", lambda: os.setxattr("/work/own", "security.capability", b"x" * 20))
attempt("trusted", lambda: os.setxattr("/work/own", "user.x", b"x"))
""",
    probes={
        "setuid": "",
        "capable": "",
        "own": ("EACCES", "EPERM"),
        "capability": ("EPERM", "ENOTSUP"),
        "trusted": ("EPERM", "ENOTSUP"),
    },
    hardened={
        "probes": {
            "setuid": "",
            "capable": "",
            "own": ("EACCES", "EPERM"),
            "capability": ("EPERM", "ENOTSUP", "EINVAL"),
            "trusted": ("EPERM", "ENOTSUP", "done"),
        }
    },
    because="gVisor's tmpfs keeps a program's own attributes, which is memory of the sandbox",
    limits=LIMITS,
)
attack(
    THEME,
    "anywhere to leave something",
    """
places = []
for directory, names, _ in os.walk("/"):
    if directory.startswith(("/proc", "/sys")): continue
    if os.access(directory, os.W_OK): places.append(directory)
    if directory in ("/work", "/tmp", "/output", "/dev/shm"): names.clear()
probes["places"] = ",".join(sorted(places))
options = {line.split()[1]: line.split()[3].split(",") for line in open("/proc/self/mounts")}
for place in places:
    mount = max((path for path in options if place.startswith(path)), key=len)
    probes[place] = " ".join(sorted({"nosuid", "nodev", "noexec"} & set(options[mount])))
""",
    probes={
        "places": "/dev/mqueue,/dev/shm,/output,/tmp,/work",
        **dict.fromkeys(("/dev/mqueue", "/dev/shm", "/output", "/tmp"), "nodev noexec nosuid"),
        "/work": "nodev nosuid",  # programs make there what they run
    },
    hardened={
        "probes": {
            "places": "/dev/shm,/output,/tmp,/work",
            **dict.fromkeys(("/dev/shm", "/output", "/tmp"), ("noexec", "nodev noexec nosuid")),
            "/work": ("", "nodev nosuid"),
        }
    },
    because="gVisor has no /dev/mqueue, and reports one flag of a mount; other tests show that the rest are in force",
)
attack(
    THEME,
    "devices",
    """
import stat
for kind, mode, device in (("character", stat.S_IFCHR, os.makedev(1, 1)), ("block", stat.S_IFBLK, os.makedev(8, 0))):
    attempt(kind, lambda: os.mknod("/tmp/" + kind, mode | 0o666, device))
known = {"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
odd = []
for directory, _, names in os.walk("/dev"):
    for name in names:
        found = os.stat(os.path.join(directory, name)) if os.path.exists(os.path.join(directory, name)) else None
        if found and stat.S_IFMT(found.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) and name not in known: odd.append(name)
probes["odd"] = ",".join(odd)
for name in ("mem", "kmem", "port", "kmsg", "sda", "vda", "loop-control", "fuse", "kvm", "net/tun",
             "userfaultfd", "autofs"):
    attempt(name, lambda: os.open("/dev/" + name, os.O_RDONLY))
""",
    probes={
        "character": "EPERM",
        "block": "EPERM",
        "odd": "",
        **dict.fromkeys(
            ("mem", "kmem", "port", "kmsg", "sda", "vda", "loop-control", "fuse", "kvm", "net/tun"), "ENOENT"
        ),
        **dict.fromkeys(("userfaultfd", "autofs"), "ENOENT"),
    },
    hardened={
        "probes": {
            "character": "done",
            "block": "done",
            "odd": "fuse,tun",
            **dict.fromkeys(("mem", "kmem", "port", "kmsg", "sda", "vda", "loop-control", "kvm"), "ENOENT"),
            **dict.fromkeys(("userfaultfd", "autofs"), "ENOENT"),
            **dict.fromkeys(("fuse", "net/tun"), ("3", "4", "5")),
        }
    },
    because="gVisor has devices of its own, such as a fuse and a tun that lead nowhere",
)
attack(
    THEME,
    "secrets in the environment and in files",
    """
import re
odd = [name for name in os.environ if re.search("MAYFLY|TOKEN|SECRET|PASSWORD|REDIS|DOCKER|AWS|KEY|HOST", name)]
probes["variables"] = ",".join(odd)
environments = set()
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        try: environments.add(open(f"/proc/{name}/environ", "rb").read()[:100])
        except OSError: pass
probes["other processes"] = str(len(environments))
found = []
for directory, names, files in os.walk("/"):
    if directory.startswith(("/proc", "/sys")): continue
    for name in files:
        path = os.path.join(directory, name)
        if name in ("id_rsa", "shadow", ".netrc", "credentials", "docker.sock", "api-key", "secret", "token"):
            if os.access(path, os.R_OK): found.append(path)
probes["files"] = ",".join(found)
# its own memory, which was forked from the agent's
held = 0
for line in open("/proc/self/maps"):
    span, flags = line.split()[:2]
    if "r" not in flags or "[v" in line: continue
    start, end = (int(word, 16) for word in span.split("-"))
    try:
        memory = os.pread(os.open("/proc/self/mem", os.O_RDONLY), end - start, start)
    except (OSError, OverflowError): continue
    held += len(re.findall(b"kfm"[::-1] + b"_[A-Za-z0-9_-]{20,}", memory))
    held += memory.count(b"LRU_SIDER_"[::-1] + b"=unix")
probes["memory"] = str(held)
""",
    probes={"variables": "", "other processes": "0", "files": "", "memory": "0"},
    limits=LIMITS,
    aims_at="accounts",
    hardened={"probes": {"variables": "", "other processes": ("0", "1"), "files": "", "memory": "0"}},
    because="gVisor lets a process of the same uid read another's environment, in which the agent has nothing",
)
attack(
    THEME,
    "descriptors that the agent left open",
    """
ends = {}
for name in sorted(os.listdir("/proc/self/fd"), key=int):
    try: ends[name] = os.readlink(f"/proc/self/fd/{name}").partition(":")[0]
    except OSError: pass
probes["0 to 2"] = " ".join(ends.get(name, "") for name in "012")
others = (target for name, target in ends.items() if int(name) > 2 and not target.startswith("/proc/"))
probes["others"] = ",".join(others)
for name in ("/dev/stdin", "/dev/stdout", "/dev/fd/3", "/proc/thread-self/fd/3"):
    attempt(name, lambda: os.readlink(os.path.realpath(name)) if "3" in name else "open")
probes.pop("/dev/stdin"), probes.pop("/dev/stdout")
""",
    probes={
        "0 to 2": "pipe pipe pipe",
        "others": "",
        "/dev/fd/3": ("ENOENT", "EINVAL"),
        "/proc/thread-self/fd/3": ("ENOENT", "EINVAL"),
    },
)
attack(
    THEME,
    "what the kernel would rather keep",
    """
for path in ("/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/key-users", "/proc/kmsg", "/proc/timer_list",
             "/proc/sched_debug", "/proc/modules", "/proc/interrupts", "/proc/config.gz", "/proc/slabinfo",
             "/proc/kpagecount", "/proc/vmallocinfo", "/proc/iomem", "/proc/ioports", "/sys/kernel/debug/x",
             "/sys/kernel/notes", "/sys/firmware/acpi/tables/DSDT", "/sys/class/dmi/id/product_uuid",
             "/sys/kernel/security/x", "/sys/fs/pstore/x", "/sys/kernel/vmcoreinfo"):
    def read():
        with open(path, "rb") as file: data = file.read(4096)
        # zeroed addresses disclose nothing
        return "disclosed" if data.strip(b"\\0") and not b"0000-0000" in data else "empty"
    attempt(path, read)
probes = {"disclosed": ",".join(sorted(path for path, value in probes.items() if value == "disclosed"))}
""",
    probes={
        "disclosed": ("", "/sys/kernel/notes", "/sys/kernel/vmcoreinfo", "/sys/kernel/notes,/sys/kernel/vmcoreinfo")
    },
)
attack(
    THEME,
    "the runtime that started it",
    """
attempt("own executable", lambda: os.open("/proc/self/exe", os.O_WRONLY))
attempt("agent's executable", lambda: os.open("/proc/1/exe", os.O_WRONLY))
attempt("by path", lambda: os.open(f"/proc/self/fd/{os.open('/proc/self/exe', os.O_PATH)}", os.O_WRONLY))
attempt("leaked directory", lambda: os.listdir("/proc/self/fd/7/../../../.."))
attempt("working directory", lambda: os.listdir("/proc/1/cwd/../../../../root"))
""",
    probes={
        "own executable": ("EROFS", "ETXTBSY", "EACCES"),
        "agent's executable": ("EACCES", "EROFS", "EPERM"),
        "by path": ("EROFS", "ETXTBSY", "EACCES"),
        "leaked directory": ("ENOENT", "ENOTDIR"),
        "working directory": ("EACCES", "ENOENT", "EPERM"),
    },
    aims_at="binaries",
)
