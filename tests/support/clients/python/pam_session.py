# SPDX-License-Identifier: MIT
"""A program that logs a user in: `pam_session.py SERVICE USER`, commands on stdin as JSON lists.

This file knows libpam and what a process has that a module must leave alone.  Every command gets an
answer, one line of JSON on stdout.
"""

import ctypes
import json
import os
import signal
import sys
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_void_p
from pathlib import Path

PAM_CONV_ERR = 19
CONVERSATION = CFUNCTYPE(c_int, c_int, c_void_p, c_void_p, c_void_p)


class Conv(Structure):
    """struct pam_conv."""

    _fields_ = (("conv", CONVERSATION), ("data", c_void_p))


@CONVERSATION
def say_nothing(*_):
    return PAM_CONV_ERR


class Login:
    """A PAM handle and what may be done with it."""

    def __init__(self, service, user):
        self.pam = ctypes.CDLL("libpam.so.0")
        self.pam.pam_getenv.restype = c_char_p
        self.pam.pam_open_session.argtypes = self.pam.pam_close_session.argtypes = (c_void_p, c_int)
        self.pam.pam_putenv.argtypes = self.pam.pam_getenv.argtypes = (c_void_p, c_char_p)
        self.pam.pam_end.argtypes = (c_void_p, c_int)
        self.handle = c_void_p()
        self.conv = Conv(say_nothing, None)
        start = self.pam.pam_start
        start.argtypes = (c_char_p, c_char_p, POINTER(Conv), POINTER(c_void_p))
        assert start(service.encode(), user.encode(), byref(self.conv), byref(self.handle)) == 0

    def open(self):
        return self.pam.pam_open_session(self.handle, 0)

    def close(self):
        return self.pam.pam_close_session(self.handle, 0)

    def putenv(self, text):
        return self.pam.pam_putenv(self.handle, text.encode())

    def getenv(self, name):
        value = self.pam.pam_getenv(self.handle, name.encode())
        return None if value is None else value.decode()

    def interrupt(self, seconds):
        """From now on be interrupted again and again."""
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, float(seconds), float(seconds))

    def become(self, uid):
        """Let go of root, as systemd does for a unit with PAMName= and run0 before the close."""
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))

    def restless(self):
        """Do as programs do that have children and signals of their own."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})

    def state(self):
        """What a module must leave as it is."""
        status = Path("/proc/self/status").read_text().splitlines()
        wanted = (
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "SigPnd",
            "ShdPnd",
            "Threads",
            "Umask",
            "Uid",
            "Gid",
            "Groups",
            "Cap",
        )
        return {
            "descriptors": sorted(os.listdir("/proc/self/fd")),
            "children": Path("/proc/self/task", str(os.getpid()), "children").read_text(),
            "status": [line for line in status if line.startswith(wanted)],
            "environment": dict(os.environ),
            "directory": str(Path.cwd()),
        }


def main():
    login = Login(*sys.argv[1:3])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(login, name)(*arguments)), flush=True)
    login.pam.pam_end(login.handle, 0)


main()
