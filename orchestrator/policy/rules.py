"""The rules of the static policy, as data: :mod:`orchestrator.policy.syntax` applies them. Standard library only.

Every rule's message names the finding and the alternative; ``{what}`` is the found name or text. ``docs/policy.md``
explains the rules and their evasion.
"""

from __future__ import annotations

import re

MESSAGES = {
    "import_process": "{what} starts or controls processes. Compute in the program itself; for files use pathlib.",
    "import_interpreter": "{what} reaches into the interpreter or native code. Use the public API of plain modules.",
    "import_dynamic": "{what} imports or runs code chosen at run time. Import modules by name at the top of the file.",
    "import_network": "{what} is for networks, and programs have none. Send the data as an input file.",
    "import_deserialization": "{what} runs code that is hidden in the data it loads. Use json or csv instead.",
    "import_host": "{what} is about the host, its users or its kernel. Pass what is needed as arguments or inputs.",
    "dynamic_import": "{what} imports a module chosen at run time. Use an import statement.",
    "dynamic_code": "{what} makes code from data. Call functions directly; for literals use ast.literal_eval.",
    "encoded_code": "{what} runs code that was encoded, which hides it. Submit the code itself.",
    "encoded_payload": "A long encoded text in a program that decodes and runs text. Submit the code itself.",
    "computed_attribute": "{what} with a name that is computed. Name the attribute, or use a dictionary.",
    "dunder_access": "{what} leads from any object to the interpreter's insides. Use the object's public methods.",
    "dunder_in_text": "A text with {what}, which formatting or a look-up could follow. Remove it.",
    "namespace_access": "{what} opens a namespace to changes by name. Pass values as arguments or in a dictionary.",
    "module_attribute": "{what} reaches a module through another one. Import what you need directly.",
    "suspicious_path": "A path that is no program's business: {what}. Inputs are in /inputs, results go to /output.",
    "suspicious_address": "The address of a cloud's metadata service: {what}. Programs have no network.",
    "syntax_error": "It cannot be read as Python: {what}.",
    "not_inspected": "It was not inspected: {what}.",
}
# These findings are never ignored: they mean that the other rules could not be applied.
OWN = frozenset({"syntax_error", "not_inspected"})

IMPORTS = {
    "import_process": frozenset({
        "os", "posix", "subprocess", "_posixsubprocess", "multiprocessing", "_multiprocessing", "pty", "signal",
        "concurrent.futures.process", "asyncio.subprocess", "pexpect", "ptyprocess", "psutil", "plumbum",
    }),
    "import_interpreter": frozenset({
        "sys", "gc", "inspect", "ctypes", "_ctypes", "cffi", "_cffi_backend", "code", "codeop", "dis", "opcode",
        "builtins", "site", "sysconfig", "tracemalloc", "faulthandler", "symtable", "pdb", "bdb", "trace",
        "_testcapi", "_testinternalcapi", "_xxsubinterpreters", "_interpreters", "bytecode",
    }),
    "import_dynamic": frozenset({
        "importlib", "_frozen_importlib", "_frozen_importlib_external", "_imp", "imp", "runpy", "pkgutil", "zipimport",
        "zipapp", "pip", "ensurepip", "setuptools",
    }),
    "import_network": frozenset({
        "socket", "_socket", "ssl", "_ssl", "http", "urllib", "ftplib", "poplib", "imaplib", "smtplib", "smtpd",
        "telnetlib", "nntplib", "xmlrpc", "socketserver", "asyncore", "asynchat", "webbrowser", "wsgiref", "requests",
        "httpx", "aiohttp", "urllib3", "websocket", "websockets", "paramiko", "pycurl", "scapy", "grpc", "boto3",
        "botocore", "docker",
    }),
    "import_deserialization": frozenset({
        "pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle",
    }),
    "import_host": frozenset({
        "pwd", "grp", "spwd", "nis", "syslog", "resource", "fcntl", "termios", "tty", "mmap", "_posixshmem",
    }),
}  # fmt: skip
MODULE_RULES = {module: rule for rule, modules in IMPORTS.items() for module in modules}
# Parts of these modules that only compute, which are therefore permitted.
HARMLESS = frozenset({"os.path", "urllib.parse", "http.HTTPStatus", "http.HTTPMethod", "inspect.cleandoc"})

# Built-in names, also without a call, since an alias can be called.
NAMES = {
    "eval": "dynamic_code",
    "exec": "dynamic_code",
    "compile": "dynamic_code",
    "__import__": "dynamic_import",
    "globals": "namespace_access",
    "locals": "namespace_access",
    "vars": "namespace_access",
}
RUNS_TEXT = frozenset({"eval", "exec", "compile"})
ATTRIBUTE_FUNCTIONS = frozenset({"getattr", "setattr", "delattr"})
ATTRIBUTE_GETTERS = frozenset({"attrgetter", "methodcaller"})
DECODERS = frozenset({
    "b16decode", "b32decode", "b64decode", "b85decode", "a85decode", "standard_b64decode", "urlsafe_b64decode",
    "decodebytes", "a2b_base64", "a2b_hex", "unhexlify", "fromhex", "decompress",
})  # fmt: skip

DUNDERS = frozenset({
    "__class__", "__mro__", "__bases__", "__base__", "__subclasses__", "__globals__", "__builtins__", "__code__",
    "__closure__", "__dict__", "__getattribute__", "__import__", "__loader__", "__spec__", "__self__", "__func__",
    "__reduce__", "__reduce_ex__", "__subclasshook__", "__init_subclass__", "__objclass__", "__traceback__",
    "gi_frame", "gi_code", "cr_frame", "cr_code", "ag_frame", "ag_code", "tb_frame", "f_back", "f_globals",
    "f_builtins", "f_locals", "f_code", "co_code",
})  # fmt: skip
# Names that only read a text of the class, as in `self.__class__.__name__`, the older form of `type(self).__name__`.
NAME_OF_CLASS = frozenset({"__name__", "__qualname__", "__module__"})
# Modules that are attributes of other modules: `random._os.system`.
HELD_MODULES = frozenset({"os", "_os", "sys", "_sys", "posix", "builtins", "subprocess", "importlib", "ctypes"})

DUNDER_TEXT = re.compile("|".join(sorted(name for name in DUNDERS if name.startswith("__"))))
PATH_TEXT = re.compile(
    r"/proc/(?:self|thread-self|1|sys|kcore|keys|kallsyms|sysrq-trigger)\b|/sys/(?:fs|kernel|devices)\b"
    r"|/dev/(?:k?mem|fuse|kvm|shm)\b|/(?:docker|containerd|crio|podman)\.sock\b|/etc/(?:passwd|shadow|sudoers|ld\.so\.preload)\b"
    r"|/root/|/\.ssh/|\.ssh/(?:id_|authorized_keys)|/\.aws/credentials|/run/secrets/"
)
ADDRESS_TEXT = re.compile(r"\b169\.254\.169\.254\b|\bmetadata\.google\.internal\b|\b100\.100\.100\.200\b|fd00:ec2::254")
ADDRESS_NUMBERS = frozenset({0xA9FEA9FE})
ENCODED_CHARACTERS = 200
ENCODED_TEXT = re.compile(r"[A-Za-z0-9+/_=\s-]+")
