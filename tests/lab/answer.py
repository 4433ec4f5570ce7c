"""Answers what the appliance asks at its first boot on its serial line, as a person does.

    answer.py SOCKET FILE DEVICE…      FILE: the configuration that it is to have
"""

import base64
import re
import socket
import sys
import time

PATIENCE = 600


class Line:
    def __init__(self, path):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.socket = socket.socket(socket.AF_UNIX)
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.text = ""

    def wait(self, pattern):
        """What comes until this does, which is taken."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text)):
            left = end - time.monotonic()
            if left <= 0:
                sys.exit(f"{pattern!r} did not come: {self.text[-2000:]!r}")
            self.socket.settimeout(left)
            try:
                piece = self.socket.recv(4096)
            except TimeoutError:
                continue
            if not piece:
                sys.exit(f"the machine has ended before {pattern!r}: {self.text[-2000:]!r}")
            self.text += piece.decode(errors="replace").replace("\r", "")
        before, self.text = self.text[: found.end()], self.text[found.end() :]
        return before

    def say(self, text):
        self.socket.sendall(text.encode() + b"\n")

    def answer(self, pattern, text):
        before = self.wait(pattern)
        self.say(text)
        return before


def main():
    path, file, *devices = sys.argv[1:]
    line = Line(path)
    line.answer(r"Press Enter to set it up", "")
    line.answer(r"New password:", "secret-7")
    line.answer(r"Retype new password:", "secret-7")
    line.answer(r"The machine's name", "edge2")
    cards = line.answer(r"Which are for weir\?", "0000:00:99.0")
    for device in devices:
        assert device in cards, cards
    # What is not there is told, and asked again.
    line.wait(r"0000:00:99.0 is no network device of this machine")
    line.answer(r"Which are for weir\?", " ".join(devices))
    would = line.answer(r"Do it\? \[y/N\]", "y")
    assert "vfio-pci" in would, would
    line.answer(r"Edit /etc/weir/weir.toml now\?", "n")
    # The first file has ports without addresses.
    if line.wait(r"weir starts|Leave it so, for later\?").endswith("?"):
        line.say("y")
    line.answer(r"login:", "root")
    line.answer(r"Password:", "secret-7")
    line.wait(r"# ")
    # Its file, by a line as long as a terminal takes.
    text = base64.b64encode(open(file, "rb").read()).decode()
    line.say("stty -echo; : >/tmp/file")
    for n in range(0, len(text), 1000):
        line.say(f"echo {text[n:n + 1000]} >>/tmp/file; echo 'piece' {n}")
        line.wait(f"\npiece {n}\n")
    line.say("base64 -d /tmp/file >/etc/weir/weir.toml; weir check /etc/weir/weir.toml && systemctl enable weir; systemctl restart weir; echo \"ended $?\"")
    line.wait(r"ended 0\n")
    line.say("cat /etc/hostname; ls /var/lib/weir-image; echo 'that' 'is all'")
    said = line.wait(r"that is all\n")
    assert "edge2" in said and "first-boot" not in said.split("edge2")[1], said


main()
