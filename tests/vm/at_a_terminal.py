#!/usr/bin/env python3
"""Runs a program at a pseudo-terminal, by a script on standard input, a step a line; the first that fails ends it.

    at_a_terminal.py PROGRAM ARGUMENT... <script

    shows TEXT      waits until TEXT is shown behind what was waited for before
    types KEYS      types them; \\t, \\x03 and so on as Python has them
    enters KEYS     the same, then the key that ends a line
    hides           waits until keys are not shown as they are typed
    runs COMMAND    runs a command of the shell, which has to succeed
    ends STATUS     waits for the program's end, and wants that exit status
"""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

LIMIT_SECONDS = 30
# What moves the cursor or chooses a colour.
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[@-~]|\x1b[^\[]|\r")
ECHO_FLAGS = 3  # The local modes among what tcgetattr gives.


class Terminal:
    def __init__(self, arguments):
        self.program, self.terminal = pty.fork()
        if self.program == 0:
            os.execvp(arguments[0], arguments)
        self.shown = b""
        self.passed = 0

    def read(self):
        """Takes what the program shows, waiting a moment."""
        if select.select([self.terminal], [], [], 0.05)[0]:
            try:
                self.shown += os.read(self.terminal, 65536)
            except OSError:  # The program has closed its end.
                time.sleep(0.05)

    def text(self):
        return ESCAPES.sub(b"", self.shown).decode(errors="replace")

    def until(self, what, condition):
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                sys.exit(f"{what}: not within {LIMIT_SECONDS} s; the terminal shows:\n{self.text()}")
            self.read()

    def shows(self, wanted):
        self.until(f"shows {wanted}", lambda: wanted in self.text()[self.passed :])
        self.passed = self.text().index(wanted, self.passed) + len(wanted)

    def types(self, keys):
        os.write(self.terminal, keys.encode().decode("unicode_escape").encode("latin-1"))

    def enters(self, keys):
        self.types(keys + "\\r")

    def hides(self, _):
        echoes = lambda: termios.tcgetattr(self.terminal)[ECHO_FLAGS] & termios.ECHO
        self.until("hides", lambda: not echoes())

    def runs(self, command):
        if subprocess.run(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL).returncode != 0:
            sys.exit(f"runs {command}: it failed; the terminal shows:\n{self.text()}")

    def ends(self, wanted):
        self.until("ends", lambda: os.waitid(os.P_PID, self.program, os.WEXITED | os.WNOHANG | os.WNOWAIT))
        status = os.waitstatus_to_exitcode(os.waitpid(self.program, 0)[1])
        self.program = None
        if status != int(wanted):
            sys.exit(f"ends {wanted}: it ended with {status}; the terminal shows:\n{self.text()}")


def main():
    terminal = Terminal(sys.argv[1:])
    try:
        for line in sys.stdin:
            verb, _, rest = line.strip("\n").partition(" ")
            getattr(terminal, verb)(rest)
    finally:
        if terminal.program:
            os.kill(terminal.program, signal.SIGKILL)


main()
