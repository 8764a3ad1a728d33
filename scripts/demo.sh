#!/usr/bin/env bash
# The main job in miniature: a zip of videos in, a trained LoRA and a preview out, in outputs/demo.
set -euo pipefail
source "$(dirname "$0")/setup.sh"

python scripts/make_demo.py outputs/demo.zip
python -m ltx_trainer run configs/demo.yaml
python scripts/score_demo.py outputs/demo
