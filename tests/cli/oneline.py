# SPDX-License-Identifier: MIT
"""What every verb does with what it cannot take: one clear line, an exit status, nothing else."""
import unittest


class OneLine(unittest.TestCase):
    def assert_refused(self, done, status, words):
        """`done` (of subprocess.run) has that status, nothing on stdout, and one line with all the
        words on stderr."""
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("vmfault: "), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
