"""How test-kernels judges what a machine says."""

import contextlib
import importlib.machinery
import importlib.util
import io
import os
import tempfile
import time
import unittest
from pathlib import Path

SCRIPT = str(Path(__file__).resolve().parent.parent / "test-kernels")
loader = importlib.machinery.SourceFileLoader("test_kernels", SCRIPT)
kernels = importlib.util.module_from_spec(importlib.util.spec_from_loader("test_kernels", loader))
loader.exec_module(kernels)


def tests(*titles):
    return [kernels.Test("program", "/", title.rpartition("::")[2], title) for title in titles]


class Judging(unittest.TestCase):
    def course(self, *lines):
        course = kernels.Course("6.1", tests("a::b::one", "a::b::two"), 10)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            for line in lines:
                course.take(line)
        return course, said.getvalue()

    def test_a_test_passes_only_if_it_ran_and_ended_well(self):
        ran = "| test result: ok. 1 passed; 0 failed"
        course, _ = self.course("begin 0", ran, "end 0 0", "begin 1", "| test result: ok. 0 passed", "end 1 0")
        self.assertEqual((course.passed, course.failed), (1, 1))

    def test_what_a_failed_test_said_is_told(self):
        course, said = self.course("begin 1", "| end 1 0", "end 1 101")
        self.assertEqual((course.passed, course.failed), (0, 1))
        self.assertIn("FAIL", said)
        self.assertIn("    end 1 0\n", said)

    def test_what_did_not_end_is_counted(self):
        course, _ = self.course("begin 0")
        self.assertIn("2 did not end", course.summary())

    def test_the_kernels_complaints_are_found_and_its_news_is_not(self):
        with tempfile.TemporaryDirectory() as folder:
            console = Path(folder) / "console"
            console.write_text("[1.0] mtrr: inconsistent\n[2.0] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1\n[3.0] BUG: x\n")
            self.assertEqual(len(kernels.machine.complaints(console)), 2)

    def test_a_machine_that_says_nothing_more_is_not_waited_for(self):
        reading, writing = os.pipe()
        with open(reading, "rb") as stream, open(writing, "wb"):
            with self.assertRaises(kernels.machine.Broken):
                list(kernels.machine.lines(stream, time.monotonic() + 0.01))


class Choosing(unittest.TestCase):
    def choose(self, has, **rule):
        with contextlib.redirect_stdout(io.StringIO()):
            rules = [{"why": "so", **rule}]
            chosen = kernels.choose(tests("a::b::one", "a::b::two"), {"name": "6.1", "has": has}, rules, None)
        return [test.name for test in chosen]

    def test_a_test_is_left_out_where_the_kernel_lacks_what_it_is_about(self):
        self.assertEqual(self.choose([], tests=["::two$"]), ["one"])
        self.assertEqual(self.choose([], tests=["::two$"], lacking="tcx"), ["one"])
        self.assertEqual(self.choose(["tcx"], tests=["::two$"], lacking="tcx"), ["one", "two"])

    def test_an_expression_that_leaves_out_nothing_is_an_error(self):
        with self.assertRaises(SystemExit):
            self.choose([], tests=["::three$"])


if __name__ == "__main__":
    unittest.main()
