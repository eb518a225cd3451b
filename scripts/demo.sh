# What scripts/demo and scripts/seeds share: sizes, the recipe, and the steps of the line. To be sourced
# from the repository's root.

train_neutral=16   # pictures per neutral prompt, 26 occupations: the losing sets
train_specific=2   # pictures per specific prompt, 12 identities each: the winning sets
eval_neutral=32    # pictures per neutral evaluation prompt, before and after
eval_specific=1    # pictures per specific evaluation prompt, before and after

# SDXL's defaults (learning rate 1e-5, beta 5000, batch 8 pairs) are for latents of 65,536 numbers; these have
# 1,024. With a small beta the pairs pull a prompt past the middle, with a large one the pull fades early;
# without --preserve captions that name an identity lose some of their hold.
plain=(--lora 8 --loss popalign --beta 400 --lr 4e-3 --lr-schedule cosine --warmup 20 --steps 400
  --batch 16 --micro-batch 8 --ema 0.97 --caption-dropout 0)
recipe=("${plain[@]}" --preserve 0.2)

bin=target/release
threads=() # --threads N, of each command
prompts=models/demo/prompts

step() { # NAME COMMAND...: runs it, says how long it took
  local name=$1 begin=$SECONDS
  shift
  printf '\n== %s\n   %s\n' "$name" "$*"
  "$@"
  printf '   %s took %d s\n' "$name" $((SECONDS - begin))
}

build() {
  step "set-up" scripts/setup
  step "build" cargo build --release --locked --bins
}

export_model() { # OUT: makes OUT/bundle
  step "export the model" $bin/pa-export models/demo -o "$1/bundle"
  bundle=$1/bundle
  portraits=(--axes "$bundle/axes.toml" --filter "$bundle/chain.toml")
}

training_set() { # PROMPTS OUT
  step "generate the training set" $bin/pa-datagen "${threads[@]}" --model "$bundle" --steps 16 --cfg 2.5 "${portraits[@]}" \
    --prompts "$1" --neutral $train_neutral --specific $train_specific --format none --seed 1 --out "$2"
}

people() { # PROMPTS CFG SEED OUT [OPTION...]: portraits that are judged
  step "draw people into $4" $bin/pa-datagen "${threads[@]}" --model "$bundle" --steps 16 --cfg "$2" "${portraits[@]}" \
    --prompts "$1" --neutral $eval_neutral --specific $eval_specific --seed "$3" --out "$4" "${@:5}"
}

things() { # CFG SEED OUT [OPTION...]: pictures without people
  step "draw things into $3" $bin/pa-datagen "${threads[@]}" --model "$bundle" --steps 16 --cfg "$1" \
    --prompts $prompts/things.csv --neutral 6 --seed "$2" --out "$3" "${@:4}"
}

score() { # LORA OUT.json SCORED... --against BEFORE... [OPTION...]: as pa-score takes them
  local lora=$1 out=$2
  shift 2
  step "score" $bin/pa-score "${threads[@]}" "$@" --model "$bundle" --axes "$bundle/axes.toml" \
    --chain "$bundle/chain.toml" --training "$lora" --out "$out"
}
