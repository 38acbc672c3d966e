#!/usr/bin/env bash
# scripts/quickstart.sh: from a fresh checkout to a language model trained on real text, in ten minutes on two cores.
#
# usage: scripts/quickstart.sh [--steps N] [--ranks N] [--corpus FILE...] [--no-install]
#
#   --steps N         optimizer steps (default: as configs/quickstart.textproto says, about four minutes on two cores)
#   --ranks N         MPI ranks (default: 2, or 1 on a single core)
#   --corpus FILE...  your own text instead of the dictionary and the Perl manual: plain text or JSONL ("text" key),
#                     plain or .gz; a few MB at least
#   --no-install      skip the set-up (elsewhere than on Debian 12, or without root)
#
# Sets up, builds, prepares the corpus once (corpus/), trains a tokenizer, tokenizes, trains with mpirun, and ends with a
# summary. What is up to date is not done again.
caller_folder=$PWD
source "$(dirname "$0")/lib.sh"

steps='' install=1 own=()
ranks=$(($(nproc) > 1 ? 2 : 1))
is_count() { [[ "$1" =~ ^[1-9][0-9]{0,6}$ ]]; }
while [ $# -gt 0 ]; do
  case "$1" in
    --steps) is_count "${2:-}" || die "--steps wants a number of steps, not '${2:-}'"; steps=$2; shift 2 ;;
    --ranks) is_count "${2:-}" || die "--ranks wants a number of ranks, not '${2:-}'"; ranks=$2; shift 2 ;;
    --no-install) install=0; shift ;;
    --corpus)
      shift
      while [ $# -gt 0 ] && [[ "$1" != --* ]]; do
        file=$(cd "$caller_folder" && realpath -e -- "$1" 2>/dev/null) || die "--corpus: there is no file '$1'"
        own+=("$file")
        shift
      done
      [ ${#own[@]} -gt 0 ] || die "--corpus wants files"
      ;;
    -h | --help) show_help; exit 0 ;;
    *) die "unknown argument '$1' (see --help)" ;;
  esac
done

if [ "$install" -eq 1 ]; then
  step "Set-up"
  scripts/setup.sh
fi
step "Build"
scripts/build.sh --target shoal

step "Corpus"
corpus=corpus sources=(gcide perldoc) configs=(configs/quickstart.textproto)
if [ ${#own[@]} -eq 0 ]; then
  scripts/prepare_corpus.sh
else
  corpus=corpus/own-$(sha256sum -- "${own[@]}" | sha256sum | cut -c1-12) sources=(own)
  python3 scripts/prepare_corpus.py --output "$corpus" --check || python3 scripts/prepare_corpus.py --output "$corpus" --own "${own[@]}"
fi

# An output is up to date when the note beside it names what it would be made from now. The note is written last.
is_made_from() { [ "$(cat "$1.made-from" 2>/dev/null)" = "$2" ]; }
note_made_from() { printf '%s\n' "$2" >"$1.made-from"; }
digest() { cat "$@" | sha256sum | cut -d' ' -f1; }

step "Tokenizer and tokens"
train_texts=() train_tokens=() validation_tokens=()
for source in "${sources[@]}"; do
  train_texts+=("$corpus/text/${source}_train.jsonl")
  train_tokens+=("$corpus/tokens/${source}_train")
  validation_tokens+=("$corpus/tokens/${source}_validation")
done
tokenizer=$corpus/tokenizer.model
vocab=$(scripts/quickstart_summary.py vocab "$corpus/MANIFEST")
made_from="$(digest "$corpus/MANIFEST") vocab $vocab"
if is_made_from "$tokenizer" "$made_from" && [ -s "$tokenizer" ]; then
  say "$tokenizer is up to date."
else
  rm -f "$tokenizer.made-from"
  build/shoal tokenizer train --input "${train_texts[@]}" --vocab "$vocab" --output "$tokenizer" --force
  note_made_from "$tokenizer" "$made_from"
fi
mkdir -p "$corpus/tokens"
for tokens in "${train_tokens[@]}" "${validation_tokens[@]}"; do
  text=$corpus/text/$(basename "$tokens").jsonl
  made_from="$(digest "$corpus/MANIFEST" "$tokenizer") $text"
  if is_made_from "$tokens" "$made_from" && [ -s "$tokens.bin" ] && [ -s "$tokens.idx" ]; then
    say "$tokens is up to date."
  else
    rm -f "$tokens.made-from"
    build/shoal tokenize --tokenizer "$tokenizer" --input "$text" --output "$tokens" --force
    note_made_from "$tokens" "$made_from"
  fi
done
if [ ${#own[@]} -gt 0 ]; then
  printf 'data {\n  train { prefix: "%s" }\n  validation { prefix: "%s" }\n  tokenizer: "%s"\n}\n' \
    "${train_tokens[0]}" "${validation_tokens[0]}" "$tokenizer" >"$corpus/data.textproto"
  configs+=("$corpus/data.textproto")
fi

step "Training on $ranks ranks"
run=runs/quickstart-$(date +%Y%m%d-%H%M%S)
overrides=("run.dir=$run")
[ -z "$steps" ] || overrides+=("train.steps=$steps")
set_mpirun "$ranks"
say "${mpirun[*]} build/shoal train ${configs[*]} ${overrides[*]}"
"${mpirun[@]}" build/shoal train "${configs[@]}" "${overrides[@]}" || die "training ended early; what it left is in $run"

step "Summary"
build/shoal ngram --train "${train_tokens[@]}" --validation "${validation_tokens[@]}" --json >"$run/ngram.json"
scripts/quickstart_summary.py summary "$run"
build/shoal report "$run"  # once more, with the entropies beside the loss
say ""
say "A sample:"
build/shoal generate "$run/final" --prompt "The " | sed 's/^/  | /'
cat <<END

Run folder    $run
Again         build/shoal generate $run/final --prompt "..."
Report        $run/report.html, in any browser
TensorBoard   python3 -m venv build/tb && build/tb/bin/pip install tensorboard && build/tb/bin/tensorboard --logdir runs
              (Debian 12 has no package of it; python3 -m venv wants the package python3-venv)
All of this took $((SECONDS / 60)) min $((SECONDS % 60)) s.
END
