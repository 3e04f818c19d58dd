"""The seccomp profile of every sandbox: an allow-list for one architecture, with tripwires.

Each group says why it is there. What stands in no group answers EPERM. The architectures list holds the native one
only, so the 32-bit entry, whose numbers a 64-bit filter would misread, is closed. Measured with CPython 3.11, Node 18,
bash and coreutils from Debian 12.
"""

from __future__ import annotations

import platform
from typing import Any

ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
AF_UNIX = 1
CLONE_NEW_ANY = 0x7E020000  # every CLONE_NEW* flag
ENOSYS = 38

ALLOW: dict[str, str] = {
    "memory": "brk madvise mincore mlock mlock2 mmap mprotect mremap msync munlock munmap pkey_alloc pkey_free "
    "pkey_mprotect membarrier",
    "files": "access chdir chmod close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64 "
    "fallocate fchdir fchmod fchmodat fcntl fdatasync flock fstat fstatfs fsync ftruncate futimesat getcwd getdents "
    "getdents64 ioctl lchown chown fchown fchownat link linkat lseek lstat mkdir mkdirat newfstatat open openat "
    "openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv "
    "rename renameat renameat2 rmdir sendfile stat statfs statx symlink symlinkat sync sync_file_range syncfs truncate "
    "umask unlink unlinkat utime utimensat utimes write writev mknod mknodat",
    "attributes are read, never written": "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr",
    "waiting": "epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 poll ppoll "
    "pselect6 select inotify_add_watch inotify_init inotify_init1 inotify_rm_watch signalfd signalfd4",
    "time": "alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time times "
    "timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime "
    "timerfd_settime",
    "processes and threads": "arch_prctl execve execveat exit exit_group fork vfork futex futex_waitv get_robust_list "
    "set_robust_list set_tid_address set_thread_area get_thread_area rseq sched_getaffinity sched_setaffinity "
    "sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min sched_setparam "
    "sched_setscheduler sched_yield wait4 waitid getrlimit setrlimit getrusage getpriority setpriority "
    "pidfd_open pidfd_send_signal restart_syscall",
    "signals": "kill tgkill tkill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn "
    "rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack",
    "identity, which cannot be raised": "getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getresgid "
    "getresuid getsid gettid getuid setfsgid setfsuid setgid setgroups setpgid setregid setresgid setresuid setreuid "
    "setsid setuid capget capset",
    "the machine": "getcpu getrandom sysinfo uname",
    "pairs of Unix sockets, as asyncio and multiprocessing make them": "socketpair accept accept4 bind connect "
    "getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown",
    "process settings; no-new-privileges and the filter itself cannot be undone": "prctl seccomp",
}

TRIPWIRES: dict[str, str] = {
    "asynchronous kernel interfaces that bypass a filter": "io_uring_setup io_uring_enter io_uring_register "
    "userfaultfd",
    "keyrings are not namespaced": "add_key keyctl request_key",
    "looking into the kernel": "bpf perf_event_open lookup_dcookie kcmp",
    "namespaces and mounts": "unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree "
    "move_mount mount_setattr",
    "other processes' memory": "ptrace process_vm_readv process_vm_writev process_madvise",
    "the machine itself": "kexec_load kexec_file_load init_module finit_module delete_module reboot swapon swapoff "
    "acct settimeofday clock_settime clock_adjtime adjtimex iopl ioperm quotactl",
    "files by handle, past the mount namespace": "open_by_handle_at name_to_handle_at",
    "segments of the processor": "modify_ldt",
}


def profile() -> dict[str, Any]:
    """The profile for this machine's architecture, as Docker and the OCI specification write it."""
    allowed = sorted({name for names in ALLOW.values() for name in names.split()})
    forbidden = sorted({name for names in TRIPWIRES.values() for name in names.split()})
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise RuntimeError(f"no seccomp profile for {machine}; known: {', '.join(ARCHITECTURES)}")
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [ARCHITECTURES[machine]],
        "syscalls": [
            {"names": allowed, "action": "SCMP_ACT_ALLOW"},
            {"names": forbidden, "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [_equal(0, AF_UNIX)]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [_masked_zero(0, CLONE_NEW_ANY)]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [_equal(0, 0)]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [_equal(0, 0xFFFFFFFF)]},
            # Its own limits only: under the uid they share, a program could starve the agent by lowering the agent's.
            {"names": ["prlimit64"], "action": "SCMP_ACT_ALLOW", "args": [_equal(0, 0)]},
            # clone3's flags lie in memory where a filter cannot see them; libc falls back to clone.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS},
        ],
    }


def _equal(index: int, value: int) -> dict[str, Any]:
    return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}


def _masked_zero(index: int, mask: int) -> dict[str, Any]:
    return {"index": index, "value": mask, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
