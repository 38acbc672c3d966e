# tests/parallel/failing_job_test.py: one rank's failure ends the job within seconds, with its message printed once.
#
# usage: failing_job_test.py MPIEXEC FAILING_JOB

import subprocess
import sys
import time

SECONDS = 20  # a hang, not a measurement: a failing job ends in about one

MPIEXEC, JOB = sys.argv[1:3]


def run(how, ranks):
    command = [MPIEXEC, "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), JOB, how]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    print(f"{how!r} on {ranks} ranks: exit code {done.returncode} after {time.monotonic() - begin:.1f} s")
    return done.returncode, done.stderr


def check(condition, what, stderr):
    if not condition:
        sys.exit(f"{what}; the job's stderr was:\n{stderr}")


code, stderr = run("nothing goes wrong", 3)
check(code == 0, "a good job must succeed", stderr)

for how in "one rank", "messages are on their way for an hour", "a lane fails beside one that waits":
    code, stderr = run(how, 3)
    check(code == 3, "the job must end with the failing rank's code", stderr)
    message = "error on rank 1 of 3: token 9 of document 4 is beyond the vocabulary\n"
    check(stderr.count("token 9") == 1 and message in stderr, "the message must appear once, with its rank", stderr)

code, stderr = run("all ranks", 4)
check(code == 3, "the job must end with the failing ranks' code", stderr)
message = "error on rank 0 of 4: configs/none.textproto: no such file\n"
check(stderr.count("no such file") == 1 and message in stderr, "one rank must speak for all", stderr)

code, stderr = run("a rank is killed", 4)
check(code != 0, "peers of a rank that died inside a collective must not wait for it", stderr)

code, stderr = run("an exception leaves the session", 2)
check(code != 0, "peers of a rank that left must not wait for it", stderr)

# Ranks that make different calls: both are named, and nothing hangs (tests/parallel/different_calls.h).
for how, words in (
    ("a rank skips a call", ("all_reduce of 32 f32", "all_reduce of 64 f32", "call 2 of group 'expert'")),
    ("a rank calls another verb", ("all_gather of 64 f32", "all_reduce of 64 f32", "call 2 of group 'expert'")),
    ("a rank calls a barrier", ("barrier", "all_reduce of 64 f32")),
    ("a rank has another count", ("all_reduce of 65 f32", "all_reduce of 64 f32")),
    ("a rank has another large count", ("all_reduce of 3000001 f32", "all_reduce of 3000000 f32")),
    ("a rank has another type of the same size", ("all_reduce of 64 i32", "all_reduce of 64 f32")),
    ("a rank has another root", ("group 'expert'",)),
    ("a rank sends more rows than are expected", ("rank 1 sen", "80 bytes")),
):
    code, stderr = run(how, 3)
    check(code == 3, "ranks that make different calls must end the job", stderr)
    for word in ("rank 1 ", *words):
        check(word in stderr, f"the message must say {word!r}", stderr)

alone = subprocess.run([JOB, "all ranks"], capture_output=True, text=True, timeout=SECONDS)
check(alone.returncode == 3 and alone.stderr == "error: configs/none.textproto: no such file\n",
      "without mpirun the message stands alone", alone.stderr)
