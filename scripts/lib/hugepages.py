"""The hugepages that scripts/bench needs: reserved by root, and given back in the end."""

import os
import time
from pathlib import Path

PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
TRIES = 10


class Hugepages:
    """As many as are needed, for as long as they are."""

    def __init__(self, megabytes, pages=PAGES):
        self.pages, self.missing, self.enough = pages, 0, False
        try:
            free, self.before = (int((pages / name).read_text()) for name in ("free_hugepages", "nr_hugepages"))
        except OSError:
            return
        self.missing = max(0, megabytes // 2 - free)
        self.enough = not self.missing

    def __enter__(self):
        if self.missing and os.access(self.pages / "nr_hugepages", os.W_OK):
            try:
                self.reserve()
            finally:
                # Too few of them, or interrupted: `__exit__` does not run then.
                if not self.enough:
                    self.set(self.before)
        return self

    def reserve(self):
        # Each time, the kernel clears away more of its page cache.
        for _ in range(TRIES):
            self.set(self.before + self.missing)
            if int((self.pages / "nr_hugepages").read_text()) >= self.before + self.missing:
                self.enough = True
                return
            time.sleep(0.2)

    def __exit__(self, *_):
        if self.missing and self.enough:
            self.set(self.before)

    def set(self, count):
        (self.pages / "nr_hugepages").write_text(str(count))
