# tests/cli/report_browser_test.py: a browser draws the report of a run: its curves are seen, on light ground and on dark.
#
# Wants Debian's chromium or firefox-esr (scripts/setup.sh --browser); exits with 77, and says why, where neither is.
import json
import math
import shutil
import struct
import sys
import unittest
import zlib

from shoal_program import ShoalTest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "firefox-esr", "firefox"))), None)
WIDTH, HEIGHT = 1280, 1000
# --run0, --run1 and --card of core/report/style.cpp.
LIGHT = {"run": (0x00, 0x72, 0xB2), "other": (0xD5, 0x5E, 0x00), "card": (0xFF, 0xFF, 0xFF)}
DARK = {"run": (0x4F, 0xB0, 0xEA), "other": (0xFF, 0x8D, 0x4D), "card": (0x1B, 0x1F, 0x23)}


def read_png(path):
    """(width, height, rows of RGB triples) of a PNG of 8 bits without interlacing."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, interlaced) == (8, 0) and colour in (2, 6), (depth, colour, interlaced)
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    step = 3 if colour == 2 else 4
    raw, stride = zlib.decompress(packed), width * step
    before, rows = bytearray(stride), []
    for y in range(height):
        kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        for i in range(stride) if kind else ():
            left = row[i - step] if i >= step else 0
            if kind == 1:
                guess = left
            elif kind == 2:
                guess = before[i]
            elif kind == 3:
                guess = (left + before[i]) // 2
            else:
                corner = before[i - step] if i >= step else 0
                tries = abs(before[i] - corner), abs(left - corner), abs(left + before[i] - 2 * corner)
                guess = (left, before[i], corner)[tries.index(min(tries))]
            row[i] = (row[i] + guess) & 255
        rows.append(row)
        before = row
    return width, height, [[tuple(row[i:i + 3]) for i in range(0, stride, step)] for row in rows]


def metrics(steps, offset):
    lines = []
    for step in range(1, steps + 1):
        loss = 3 + 6 * math.exp(-step / 60) + offset + 0.05 * math.sin(step)
        lines.append({"step": step, "tokens": step * 1000, "sequences": 8, "loss": loss, "lr": 0.001, "grad_norm": 1.0, "step_ms": 100,
                      "tokens_per_s": 10000, "mfu": 0.4, "expert_load_max_violation": 0.5, "peak_memory_bytes": 10**8})
        if step % 50 == 0:
            lines.append({"step": step, "tokens": step * 1000, "val_tokens": 100, "val_loss": loss + 0.1})
    return "".join(json.dumps(line) + "\n" for line in lines)


class Browser(ShoalTest):
    def screenshot(self, page, dark=False):
        picture, profile = self.folder / "page.png", self.folder / "profile"
        url = (self.folder / page).resolve().as_uri()
        picture.unlink(missing_ok=True)
        if "firefox" in BROWSER:
            profile.mkdir(exist_ok=True)
            (profile / "user.js").write_text(f'user_pref("layout.css.prefers-color-scheme.content-override", {0 if dark else 1});\n')
            command = [BROWSER, "--headless", "--profile", profile, "--screenshot", picture, f"--window-size={WIDTH},{HEIGHT}", url]
        else:
            command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1",
                       "--force-color-profile=srgb", f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}",
                       f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--screenshot={picture}", url]
        done = self.run_program(command, timeout=180, environment={"HOME": str(self.folder)})
        self.assertTrue(picture.exists(), done.stdout + done.stderr)
        return read_png(picture)

    def assert_curve(self, rows, colour, width):
        """The colour is there as a curve across most of the page, that falls."""
        columns = {}
        for y, row in enumerate(rows):
            for x, pixel in enumerate(row):
                if pixel == colour:
                    columns.setdefault(x, []).append(y)
        self.assertGreater(len(columns), width // 2, f"{len(columns)} columns of {width} have a pixel of {colour}")
        xs = sorted(columns)
        tenth = len(xs) // 10
        mean = [sum(min(columns[x]) for x in part) / tenth for part in (xs[:tenth], xs[-tenth:])]
        self.assertGreater(mean[1] - mean[0], 60, "the loss falls: down the screen")

    def test_curves_are_seen(self):
        self.write("a/metrics.jsonl", metrics(300, 0))
        self.shoal("report", "a")
        for dark, colours in ((False, LIGHT), (True, DARK)):
            with self.subTest(dark=dark):
                width, _, rows = self.screenshot("a/report.html", dark)
                self.assertGreaterEqual(width, WIDTH * 9 // 10)
                self.assertGreater(sum(row.count(colours["card"]) for row in rows), width * HEIGHT // 10)
                self.assert_curve(rows, colours["run"], width)

    def test_both_runs_are_seen(self):
        self.write("a/metrics.jsonl", metrics(300, 0))
        self.write("b/metrics.jsonl", metrics(300, 1))
        self.shoal("report", "a", "b", "--output", "page.html")
        width, _, rows = self.screenshot("page.html")
        self.assert_curve(rows, LIGHT["run"], width)
        self.assertGreater(sum(row.count(LIGHT["other"]) for row in rows), width // 2)

    def test_the_picture_for_a_readme_is_seen(self):
        self.write("a/metrics.jsonl", metrics(300, 0))
        self.shoal("report", "a", "--svg", "loss.svg")
        width, _, rows = self.screenshot("loss.svg")
        self.assert_curve(rows, LIGHT["run"], width)

    def test_a_page_without_curves_is_told_from_one_with(self):
        self.write("a/metrics.jsonl", "")
        self.shoal("report", "a")
        width, _, rows = self.screenshot("a/report.html")
        with self.assertRaises(AssertionError):
            self.assert_curve(rows, LIGHT["run"], width)


if __name__ == "__main__":
    if BROWSER is None:
        print("skipped: neither chromium nor firefox-esr is installed; scripts/setup.sh --browser installs one")
        sys.exit(77)
    unittest.main()
