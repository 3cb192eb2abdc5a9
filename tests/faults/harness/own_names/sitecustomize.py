"""Gives this process a name server of the test's: Python runs it at the start, because its folder is on PYTHONPATH.

The process enters a mount namespace of its own and lays the test's resolv.conf over the system's, so that the real
getaddrinfo asks the test's server and really waits for it. Where that is not allowed (it takes root), getaddrinfo is
replaced by one that answers and waits as the C library does: BELLWIRE_TEST_NAMES says which of the two it is.

BELLWIRE_TEST_CONNECTIONS names a file to which every address is appended that Python connects a socket to, in this
process and those that it forks.
"""

import ctypes
import json
import os
import socket
import sys
import threading
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
# With its defaults the C library asks twice and waits five seconds each time.
SILENCE_SECONDS = 10.0


def _check(answer):
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _lay_over(folder):
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS))
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    for name in ("resolv.conf", "nsswitch.conf"):
        _check(libc.mount(f"{folder}/{name}".encode(), f"/etc/{name}".encode(), None, MS_BIND, None))


def _stand_in(host, *args, **kwargs):
    answers = Path(_folder, "answers.json")
    led = json.loads(answers.read_text()).get(host) if answers.exists() else None
    if led is not None:
        return [found for address in led for found in _getaddrinfo(address, *args, **kwargs)]
    if isinstance(host, str) and host.endswith(".well.test"):
        host = "127.0.0.1"
    elif isinstance(host, str) and host.endswith(".test"):
        threading.Event().wait(SILENCE_SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _getaddrinfo(host, *args, **kwargs)


def _record(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        # One write for each: several processes append.
        os.write(_connections, f"{arguments[1][0]} {arguments[1][1]}\n".encode())


_getaddrinfo = socket.getaddrinfo
_how, _, _folder = os.environ.get("BELLWIRE_TEST_NAMES", "").partition(":")
if _how == "namespace":
    _lay_over(_folder)
elif _how == "stand-in":
    socket.getaddrinfo = _stand_in

_file = os.environ.get("BELLWIRE_TEST_CONNECTIONS")
if _file:
    _connections = os.open(_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.addaudithook(_record)
