"""What check-licences accepts and what it refuses."""

import importlib.machinery
import importlib.util
import unittest
from pathlib import Path

SCRIPT = str(Path(__file__).resolve().parent.parent / "check-licences")
loader = importlib.machinery.SourceFileLoader("check_licences", SCRIPT)
check = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_licences", loader))
loader.exec_module(check)

ALLOWED = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0", "Zlib"]


class Workspaces(unittest.TestCase):
    def test_every_workspace_is_looked_at(self):
        root = check.ROOT
        manifests = [path for depth in ("*", "*/*", "*/*/*") for path in root.glob(f"{depth}/Cargo.toml")]
        manifests = [path for path in manifests if "target" not in path.relative_to(root).parts]
        own = [path for path in manifests if "[workspace]" in path.read_text().splitlines()]
        found = ["Cargo.toml", *(str(path.relative_to(root)) for path in own)]
        self.assertEqual(sorted(check.WORKSPACES), sorted(found))


class Expressions(unittest.TestCase):
    def accepted(self, text):
        self.assertEqual(check.refused(text, ALLOWED), [], text)

    def refused(self, text, *licences):
        self.assertEqual(check.refused(text, ALLOWED), list(licences), text)

    def test_one_licence_is_looked_up_without_regard_to_case(self):
        self.accepted("MIT")
        self.accepted("mit")
        self.refused("GPL-3.0-only", "GPL-3.0-only")

    def test_one_side_of_an_or_is_enough(self):
        self.accepted("MIT OR GPL-2.0-only")
        self.accepted("LGPL-2.1-or-later OR MIT OR Apache-2.0")
        self.refused("GPL-2.0-only OR AGPL-3.0-only", "GPL-2.0-only", "AGPL-3.0-only")

    def test_both_sides_of_an_and_are_needed(self):
        self.accepted("(MIT OR Apache-2.0) AND Unicode-3.0")
        self.refused("MIT AND GPL-2.0-only", "GPL-2.0-only")

    def test_and_binds_closer_than_or(self):
        self.accepted("MIT OR GPL-2.0-only AND LGPL-3.0-only")
        self.refused("(MIT OR Zlib) AND LGPL-3.0-only", "LGPL-3.0-only")
        self.refused("GPL-2.0-only AND MIT OR LGPL-3.0-only AND MIT", "GPL-2.0-only", "LGPL-3.0-only")

    def test_an_exception_belongs_to_its_licence(self):
        self.accepted("Apache-2.0 WITH LLVM-exception")
        self.accepted("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only")
        self.refused("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0")
        self.refused("MIT WITH LLVM-exception", "MIT WITH LLVM-exception")

    def test_a_slash_is_the_old_or(self):
        self.accepted("MIT/Apache-2.0")
        self.accepted("GPL-2.0-only / Zlib")

    def test_or_later_is_another_licence(self):
        self.refused("GPL-2.0+", "GPL-2.0+")

    def test_what_is_no_expression_is_said_to_be_none(self):
        for text in ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT Zlib", "MIT, Zlib", "MIT WITH", "()", "AND"]:
            with self.assertRaises(check.BadExpression, msg=text):
                check.refused(text, ALLOWED)


class Packages(unittest.TestCase):
    def test_a_package_is_judged_by_its_expression(self):
        self.assertIsNone(check.verdict({"license": "MIT"}, ALLOWED))
        self.assertIn("needs GPL-3.0-only", check.verdict({"license": "GPL-3.0-only"}, ALLOWED))
        self.assertIn("cannot be understood", check.verdict({"license": "see the file"}, ALLOWED))

    def test_a_package_without_one_is_refused(self):
        self.assertIn("no licence", check.verdict({"license": None}, ALLOWED))
        self.assertIn("COPYING", check.verdict({"license": None, "license_file": "COPYING"}, ALLOWED))


if __name__ == "__main__":
    unittest.main()
