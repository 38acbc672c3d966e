#!/usr/bin/env bash
# scripts/smoke.sh: text to trained model with the built binary, in a minute: every command once, on this source tree.
#
# usage: scripts/smoke.sh
#
# Uses build/shoal as it is, writes into a temporary folder in build/, and checks that the loss fell and that the model
# left behind can be read. It shows that the parts fit, not how well the model learns: that is scripts/quickstart.sh.
source "$(dirname "$0")/lib.sh"
case "${1:-}" in
  "") ;;
  -h | --help) show_help; exit 0 ;;
  *) die "unknown argument '$1' (see --help)" ;;
esac
[ -x build/shoal ] || die "build/shoal is not there; run scripts/build.sh"

folder=$(mktemp -d build/smoke.XXXXXX)
trap 'rm -rf "$folder"' EXIT
set_mpirun 2

step "Corpus: this repository's sources"
find core data kernels parallel optim -name '*.h' -o -name '*.cpp' | LC_ALL=C sort >"$folder/files"
mapfile -t files <"$folder/files"
scripts/prepare_corpus.py --output "$folder" --own "${files[@]}"

step "Tokenizer and tokens"
build/shoal tokenizer train --input "$folder/text/own_train.jsonl" --vocab 512 --output "$folder/tokenizer.model"
for side in train validation; do
  build/shoal tokenize --tokenizer "$folder/tokenizer.model" --input "$folder/text/own_$side.jsonl" --output "$folder/own_$side"
done
build/shoal ngram --train "$folder/own_train" --validation "$folder/own_validation" --json >"$folder/ngram.json"

step "Training"
cat >"$folder/smoke.textproto" <<END
# smoke.textproto: a few steps on a tiny corpus.
data {
  train { prefix: "$folder/own_train" }
  validation { prefix: "$folder/own_validation" }
  tokenizer: "$folder/tokenizer.model"
  seq_len: 64
}
train { steps: 20 global_batch: 24 validate_every: 10 sample_every: 10 log_every: 5 }
END
configs=(configs/quickstart.textproto "$folder/smoke.textproto")
build/shoal config "${configs[@]}" >"$folder/config.txt"
build/shoal train "${configs[@]}" --dry-run
"${mpirun[@]}" build/shoal train "${configs[@]}" --dry-run
"${mpirun[@]}" build/shoal doctor
"${mpirun[@]}" build/shoal train "${configs[@]}" "run.dir=$folder/run"

step "One rank and two, bitwise"
for ranks in 1 2; do
  set_mpirun "$ranks"
  "${mpirun[@]}" build/shoal train "${configs[@]}" "run.dir=$folder/ranks-$ranks" train.steps=4 data.seq_len=96 run.threads=1 >"$folder/ranks-$ranks.log" ||
    die "training on $ranks rank(s) ended early: $(cat "$folder/ranks-$ranks.log")"
done
cmp "$folder"/ranks-{1,2}/final/model.safetensors || die "1 and 2 ranks trained different weights"
python3 - "$folder"/ranks-{1,2}/metrics.jsonl <<'END'
import json, sys
names = ("step", "tokens", "loss", "aux_loss", "grad_norm", "expert_load_max_violation", "val_loss", "val_bits_per_byte")
one, two = ([{name: line.get(name) for name in names} for line in map(json.loads, open(path))] for path in sys.argv[1:])
if one != two:
    sys.exit("smoke.sh: 1 and 2 ranks report different numbers:\n" + "\n".join(f"  {a}\n  {b}" for a, b in zip(one, two) if a != b))
print(f"Weights and metrics of {len(one)} lines are the same to the last bit.")
END

step "Routing recorded, then replayed"
short=(train.steps=2 train.validate_every=1 train.sample_every=1 "model.moe.replay_file=$folder/routes")
set_mpirun 2
"${mpirun[@]}" build/shoal train "${configs[@]}" "${short[@]}" "run.dir=$folder/recorded"
build/shoal train "${configs[@]}" "${short[@]}" "run.dir=$folder/replayed" model.moe.routing=REPLAY
build/shoal evaluate "$folder/replayed"

step "Four ranks that split matrices and experts, on two pretended nodes"
set_mpirun 4
configs+=("$folder/sharded.textproto")
cat >"$folder/sharded.textproto" <<END
# sharded.textproto: with multi-token prediction, the experts' choices recorded; in f32 on every machine, because
# sums split over ranks round differently, in bf16 by more than the bound below.
precision { compute: F32 }
model { mtp { depth: 1 } moe { replay_file: "$folder/choices" } }
train { steps: 4 sample_every: 4 validate_every: 2 check_replicas_every: 1 }
parallel { gradient_reduction: EACH_STEP }
run { threads: 1 }
END
sharded=(parallel.tensor=2 parallel.expert=4 parallel.ranks_per_node=2 model.moe.routing=REPLAY)
build/shoal train "${configs[@]}" "run.dir=$folder/whole" >"$folder/whole.log" || die "one rank ended early: $(cat "$folder/whole.log")"
build/shoal config "${configs[@]}" "${sharded[@]}" --ranks 4 | tail -n 12
"${mpirun[@]}" build/shoal train "${configs[@]}" "${sharded[@]}" "run.dir=$folder/sharded"
python3 - "$folder"/{whole,sharded}/metrics.jsonl <<'END'
import json, sys
one, four = ([(line["loss"], line["mtp_loss"], line["grad_norm"]) for line in map(json.loads, open(path)) if "loss" in line] for path in sys.argv[1:])
worst = max(abs(a - b) / abs(a) for x, y in zip(one, four) for a, b in zip(x, y))
if len(one) != 4 or len(four) != 4 or not worst < 1e-4:
    sys.exit(f"smoke.sh: 1 rank and 4 that split the model report different numbers:\n  {one}\n  {four}")
print(f"Losses and gradient norms of 4 steps agree with one rank's to {worst:.1e}.")
END
"${mpirun[@]}" build/shoal evaluate "$folder/sharded" --mesh tensor=2 expert=4
build/shoal evaluate "$folder/sharded"
"${mpirun[@]}" build/shoal bench comm --max-bytes 65536 --seconds 0.02

step "The same in FP8, and fewer bits on the wires"
fp8=(precision.linear=FP8 precision.combine=LOGFMT10 precision.gradient_wire=INT8 precision.moments=MOMENTS_BF16
  precision.kept_attention_out=E5M6 optim.beta2=0.95)
"${mpirun[@]}" build/shoal train "${configs[@]}" "${sharded[@]}" "${fp8[@]}" "run.dir=$folder/fp8" >"$folder/fp8.log" ||
  die "training in FP8 ended early: $(cat "$folder/fp8.log")"
python3 - "$folder"/{sharded,fp8}/metrics.jsonl <<'END'
import json, sys
plain, fp8 = ([line for line in map(json.loads, open(path)) if "loss" in line] for path in sys.argv[1:])
worst = max(abs(a["loss"] - b["loss"]) / a["loss"] for a, b in zip(plain, fp8))
parts = sorted(fp8[-1]["fp8"])
if len(fp8) != 4 or not worst < 1e-2 or parts != ["attention", "dense_ffn", "experts", "shared_expert"]:
    sys.exit(f"smoke.sh: FP8 is off by {worst:.1e}, parts {parts}")
if not fp8[-1]["comm_bytes"] < plain[-1]["comm_bytes"]:
    sys.exit("smoke.sh: FP8 sent no fewer bytes")
print(f"FP8 losses of 4 steps agree to {worst:.1e}; {fp8[-1]['comm_bytes'] / plain[-1]['comm_bytes']:.2f} of the bytes.")
END
"${mpirun[@]}" build/shoal evaluate "$folder/fp8" --mesh tensor=2 expert=4
build/shoal generate "$folder/fp8/final" --prompt "namespace " --tokens 8

step "What it left behind"
cp "$folder/ngram.json" "$folder/run/ngram.json"
scripts/quickstart_summary.py summary "$folder/run"
python3 - "$folder/run/metrics.jsonl" <<'END'
import json, sys
losses = [json.loads(line)["val_loss"] for line in open(sys.argv[1]) if '"val_loss"' in line]
if not losses[-1] < losses[0] - 0.5:
    sys.exit(f"smoke.sh: the validation loss did not fall: {losses}")
END
build/shoal evaluate "$folder/run"
build/shoal generate "$folder/run/final" --prompt "namespace " --tokens 16
say "Smoke test passed."
