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
"${mpirun[@]}" build/shoal doctor
"${mpirun[@]}" build/shoal train "${configs[@]}" "run.dir=$folder/run"

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
