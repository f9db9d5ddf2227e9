"""Checks and their count; checks of several threads do not mix."""

import threading


class Report:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self._lock = threading.Lock()

    def check(self, name, ok, detail=""):
        """Prints one line and counts it; returns `ok`."""
        with self._lock:
            if ok:
                self.passed += 1
            else:
                self.failed += 1
            print(f"{'ok  ' if ok else 'FAIL'} {name}{': ' if detail else ''}{detail}", flush=True)
        return ok

    def summary(self):
        return f"{self.passed} passed, {self.failed} failed"
