# tests/cli/timeline_test.py: a run of two ranks leaves a timeline; `shoal timeline` prints and draws it.
import json
import re
import unittest
import xml.etree.ElementTree as xml

from shoal_program import ShoalTest

CONFIG = """model {
  name: "tiny" vocab: 320 hidden: 32 layers: 2 ffn: 64
  attention { heads: 4 }
  moe { num_experts: 8 topk: 2 ffn: 32 }
}
data { train { prefix: "tokens" } seq_len: 16 tokenizer: "bytes" }
train { steps: 4 global_batch: 4 microbatch: 1 timeline { first_step: 2 steps: 2 } }
parallel { expert: 2 }
run { dir: "run" }
"""
SVG = "{http://www.w3.org/2000/svg}"


class Timeline(ShoalTest):
    def setUp(self):
        super().setUp()
        self.write("tiny.textproto", CONFIG)
        self.write("a.jsonl", "\n".join(json.dumps({"text": f"document {i}: the quick brown fox"}) for i in range(40)))
        self.shoal("tokenize", "--tokenizer", "bytes", "--input", "a.jsonl", "--output", "tokens")

    def train(self, *changes):
        done = self.mpirun(2, "train", "tiny.textproto", *changes)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_a_run_its_table_and_its_picture(self):
        text = self.train()
        self.assertIn("run/timeline.json", text)
        self.assertIn("compute/wire/idle", text)
        trace = json.loads((self.folder / "run/timeline.json").read_text())
        self.assertEqual(trace["otherData"]["config"], "tiny")
        self.assertEqual([clock["error_ns"] for clock in trace["otherData"]["clocks"]], [0, 0])
        events = trace["traceEvents"]
        self.assertEqual({event["pid"] for event in events}, {0, 1})
        ids = {phase: sorted(event["id"] for event in events if event["ph"] == phase) for phase in "sf"}
        self.assertEqual(ids["s"], ids["f"])
        senders = [event["pid"] for event in events if event["ph"] == "s"]
        self.assertGreater(senders.count(0), 10)
        self.assertEqual(senders.count(0), senders.count(1))  # what one rank tells the other, that one tells it
        tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
        self.assertLessEqual({"step", "data", "optimizer", "compute"}, tracks)

        table = self.shoal("timeline", "run/timeline.json").stdout
        self.assertEqual(len(re.findall(r"^ +[23] +(?:[01]|mean) ", table, flags=re.MULTILINE)), 6, table)
        rows = json.loads(self.shoal("timeline", "run/timeline.json", "--json", "--step", "3", "--rank", "1").stdout)
        self.assertEqual([(row["step"], row["rank"]) for row in rows], [(3, "1")])
        parts = sum(rows[0][part] for part in ("compute_ms", "exposed_ms", "data_ms", "idle_ms"))
        self.assertAlmostEqual(parts, rows[0]["step_ms"], places=6)
        self.assertGreater(rows[0]["compute_ms"], 0)

        self.shoal("timeline", "run/timeline.json", "run/timeline.json", "--svg", "a.svg", "--title", "one & <only>")
        picture = self.folder / "a.svg"
        self.assertLess(picture.stat().st_size, 300_000)
        groups = [group.get("class") for group in xml.parse(picture).getroot().iter(SVG + "g")]
        self.assertEqual(groups.count("timeline"), 2)
        self.assertEqual(groups.count("rank"), 4)
        self.assertLessEqual({"compute", "waits", "axis", "legend"}, set(groups))

        lines = [json.loads(line) for line in (self.folder / "run/metrics.jsonl").read_text().splitlines()]
        for line in lines:
            # Of the rank that waited longest, in its own step, which is not exactly rank 0's.
            self.assertAlmostEqual(line["compute_ms"] + line["exposed_comm_ms"] + line["idle_ms"], line["waiting_step_ms"], places=6)
            self.assertGreater(line["compute_ms"], 0)
            self.assertGreaterEqual(line["exposed_comm_ms"], 0)
            self.assertGreaterEqual(line["idle_ms"], 0)
            self.assertEqual(list(line["exposed_comm_ms_by_kind"]),
                             ["dispatch", "combine", "tensor", "gradients", "weights", "counts", "other"])

    def test_the_timeline_and_the_metrics_are_one_account(self):
        # On slow links, so that there is something to wait for.
        self.train("parallel.emulate.intra_node.gbit_per_s=0.2", "parallel.overlap=PAIR_FORWARD")
        rows = json.loads(self.shoal("timeline", "run/timeline.json", "--json").stdout)
        lines = [json.loads(line) for line in (self.folder / "run/metrics.jsonl").read_text().splitlines()]
        steps = {line["step"]: line for line in lines if "step_ms" in line}
        for step in 2, 3:
            ranks = [row for row in rows if row["step"] == step and row["rank"] != "mean"]
            self.assertEqual(len(ranks), 2)
            # The metrics are of the rank that waited longest.
            longest, line = max(ranks, key=lambda row: row["exposed_ms"]), steps[step]
            self.assertGreater(line["exposed_comm_ms"], 0)
            self.assertAlmostEqual(longest["exposed_ms"], line["exposed_comm_ms"], places=5)
            self.assertAlmostEqual(longest["compute_ms"], line["compute_ms"], places=5)
            for kind, ms in line["exposed_comm_ms_by_kind"].items():
                self.assertAlmostEqual(longest["exposed_ms_by_kind"][kind], ms, places=5)
            self.assertAlmostEqual(longest["step_ms"], line["waiting_step_ms"], places=5)
            self.assertAlmostEqual(longest["data_ms"] + longest["idle_ms"], line["idle_ms"], places=5)

    def test_no_timeline_unless_asked_for(self):
        self.write("tiny.textproto", re.sub(r"timeline \{.*?\}", "", CONFIG))
        self.train()
        self.assertFalse((self.folder / "run/timeline.json").exists())

    def test_mistakes(self):
        done = self.mpirun(2, "train", "tiny.textproto", "train.timeline.ranks=[2]")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("train.timeline.ranks names rank 2, but the job has 2 rank(s)", done.stderr)
        self.assertFalse((self.folder / "run").exists())
        self.refused("train", "tiny.textproto", "train.timeline.first_step=9", says="exceeds train.steps (4)")
        self.refused("timeline", says="is required")
        self.refused("timeline", "absent.json", says="cannot open a timeline absent.json")
        self.refused("timeline", "tiny.textproto", says="tiny.textproto is no timeline")
        self.write("empty.json", '{"otherData": {}, "traceEvents": []}')
        self.refused("timeline", "empty.json", says="it holds no steps")
        self.refused("timeline", "empty.json", "--rank", "one", says="'one' is no rank")
        self.refused("timeline", "empty.json", "--title", "a", "b", says="2 titles for 1 file(s)")


if __name__ == "__main__":
    unittest.main()
