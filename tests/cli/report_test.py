# tests/cli/report_test.py: every run ends with a page; `shoal report` writes one for runs that are broken, and for several.
import json
import re
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

from shoal_program import ShoalTest

CONFIG = """model {
  name: "tiny" vocab: 320 hidden: 32 layers: 3 ffn: 64
  attention { heads: 4 }
  moe { num_experts: 8 topk: 2 ffn: 32 first_dense_layers: 1 }
}
data { train { prefix: "tokens" } validation { prefix: "tokens" } seq_len: 16 tokenizer: "bytes" }
train { steps: 120 global_batch: 4 microbatch: 1 validate_every: 40 validation_sequences: 8 }
parallel { expert: 2 }
checkpoint { every_steps: 50 }
run { dir: "run" usd_per_gpu_hour: 1.5 }
"""
HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
SECTIONS = ["overview", "loss", "schedule", "speed", "time", "experts", "memory", "fp8", "history", "cost", "plan", "config"]


class Report(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", CONFIG)
        self.write("a.txt", "the quick brown fox jumps over the lazy dog, again and again. " * 100)
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "a.txt", "--output", "tokens")

    def train(self, *changes, code=0):
        done = self.mpirun(2, "train", "tiny.textproto", *changes)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def page(self, name):
        """The page, as XML: so it is well-formed."""
        root = xml.parse(self.folder / name).getroot()
        self.assertEqual([section.get("id") for section in root.iter(HTML + "section")], SECTIONS)
        self.assertEqual(list(root.iter(HTML + "script")), [])
        return root

    def lines_of_chart(self, root, title):
        for chart in root.iter(SVG + "svg"):
            if chart.get("aria-label") == title:
                return [path for path in chart.iter(SVG + "path") if path.get("class") == "line"]
        self.fail(f"no chart '{title}'")

    def test_a_run_ends_with_its_report(self):
        self.assertIn("wrote ", self.train().stdout)
        lines = [json.loads(line) for line in (self.folder / "run/metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if "loss" in line]
        loads = [line["expert_load"] for line in steps if "expert_load" in line]
        self.assertEqual(len(loads), 60)  # every second of 120 steps: 100 at most
        for load in loads:
            # Two MoE layers, eight experts, topk 2 of 4 × 16 tokens: of both ranks.
            self.assertEqual([(len(layer), sum(layer)) for layer in load], [(8, 128)] * 2)
        for line in steps:
            if "expert_load" in line:
                self.assertAlmostEqual(line["expert_load_max_violation"], max(max(l) / 16 - 1 for l in line["expert_load"]))
        self.assertEqual({line["ranks"] for line in lines}, {2})
        self.assertEqual(len({line["start_unix_s"] for line in lines}), 1)
        times = [line["job_s"] for line in lines]
        self.assertEqual(times, sorted(times))
        summary = json.loads((self.folder / "run/summary.json").read_text())
        self.assertEqual(sum(summary["predicted_memory_bytes"][kind] for kind in summary["predicted_memory_bytes"] if kind != "peak"),
                         summary["predicted_memory_bytes"]["peak"])
        self.assertGreater(summary["measured_memory_bytes"]["peak"], 0)

        root = self.page("run/report.html")
        loss = self.lines_of_chart(root, "Loss")
        self.assertGreater(max(path.get("d").count("L") for path in loss), 100)
        text = "".join(root.itertext())
        for words in ("Expert load, layers over steps", "Expert load of step 120", "step-100", "$", "No incident"):
            self.assertIn(words, text)

    def test_stopped_runs_broken_lines_and_several_runs(self):
        self.train("train.stop_after_minutes=0.0001", code=85)
        self.page("run/report.html")
        (self.folder / "run/report.html").unlink()
        (self.folder / "run/report.html").mkdir()  # cannot be written
        done = self.train("train.stop_after_minutes=0", "train.steps=60", "train.allow_changed=train.steps")
        self.assertIn("no report of the run", done.stderr)
        self.assertTrue((self.folder / "run/final").exists())
        (self.folder / "run/report.html").rmdir()

        with open(self.folder / "run/metrics.jsonl", "a") as metrics:
            metrics.write('nonsense\n{"step":61,"tok')
        done = self.shoal("report", "run")
        self.assertRegex(done.stdout, r"wrote run/report\.html \(\d+\.\d KiB\)")
        self.assertEqual(len(re.findall(r"metrics\.jsonl:\d+: .*left out", done.stderr)), 2, done.stderr)
        text = "".join(self.page("run/report.html").itertext())
        self.assertIn("started again", text)
        self.assertIn("the last line is cut", text)

        self.train("run.dir=<b>&", "optim.lr=0.01", "train.steps=40")
        self.shoal("report", "run", "<b>&", "--svg", "loss.svg")
        root = self.page("run/comparison.html")
        dashes = {path.get("stroke-dasharray") for path in self.lines_of_chart(root, "Loss")}
        self.assertEqual(dashes, {None, "7 3"})
        self.assertIn("optim.lr", "".join(root.itertext()))
        self.assertEqual(xml.parse(self.folder / "loss.svg").getroot().get("aria-label"), "Loss")
        self.shoal("report", "run", "<b>&", "--svg", "less.svg", "--chart", "difference")
        self.assertEqual(xml.parse(self.folder / "less.svg").getroot().get("aria-label"), "Loss, less that of run")
        self.refused("report", "run", "--svg", "less.svg", "--chart", "difference", says="expected at least two, found 1")
        self.refused("report", "run", "--chart", "violation", says="add --svg FILE")
        # What a plan says, as it is written.
        cluster = Path(__file__).resolve().parents[2] / "configs/clusters/h100_25gbe.textproto"
        self.shoal("plan", "tiny.textproto", "--cluster", cluster, "cluster.num_nodes=1", "cluster.gpus_per_node=2",
                   "--write", "run/plan.json")
        self.shoal("report", "run", "--output", "elsewhere.html")
        rows = ["".join(row.itertext()) for row in self.page("elsewhere.html").iter() if row.tag.endswith("tr")]
        planned = [row for row in rows if row.startswith(("peak memory", "hours of the whole run", "tokens/s"))]
        self.assertEqual(len(planned), 3, rows)
        self.assertNotIn("–", "".join(planned))
        self.page("elsewhere.html")

    def test_what_is_no_run_is_refused(self):
        self.refused("report", "nowhere", says="nowhere: holds no metrics.jsonl, so it is no run")
        self.write("run/metrics.jsonl", "")
        self.refused("report", "run", "--output", "no/such/page.html", says="no/such")
        self.refused("report", says="RUN")


if __name__ == "__main__":
    unittest.main()
