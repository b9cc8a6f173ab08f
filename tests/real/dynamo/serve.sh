#!/usr/bin/env bash
# ai-dynamo's OpenAI front end before a mock worker that batches like vLLM: a real LLM service that needs no GPU.
#
#   serve.sh install         make the environment (0.7 GB, from PyPI) and the model folder; does nothing where both are there
#   serve.sh check           exit status 0 when both are there
#   serve.sh run PORT DIR    install if need be, then serve in the foreground until SIGTERM or SIGINT
#
# On loopback: PORT (at most 32000) the OpenAI API and the front end's /metrics, PORT+1 the worker's /metrics, PORT+2 and PORT+3 the
# event plane. DIR (made if absent) gets requests.jsonl, one trace line a request, and the logs.
#
# COLDAISLE_DYNAMO names the folder of environment and model (default: coldaisle/dynamo in the user's cache folder).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${COLDAISLE_DYNAMO:-${XDG_CACHE_HOME:-$HOME/.cache}/coldaisle/dynamo}
python=$home/venv/bin/python

wanted=$(cat "$here/requirements.txt" "$here/tiny_model.py" | sha256sum | cut -c1-16)

check() {
  [ "$(cat "$home/installed" 2>/dev/null)" = "$wanted" ]
}

install() {
  if check; then return; fi
  mkdir -p "$home"
  [ -x "$python" ] || python3 -m venv "$home/venv"
  # --no-deps: the list is complete, and one thing that ai-dynamo names is on no public index; the mock worker does without.
  "$python" -m pip install -q --disable-pip-version-check --no-deps -r "$here/requirements.txt"
  rm -rf "$home/model"
  "$python" "$here/tiny_model.py" "$home/model"
  echo "$wanted" >"$home/installed"
}

run() {
  local port=$1 dir=$2 broker=$(($1 + 2))
  mkdir -p "$dir/discovery"
  # Everything on loopback; the event plane through a broker, since a worker without one listens on every address.
  export HOME=$dir HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 DYN_LOG=info
  export DYN_DISCOVERY_BACKEND=file DYN_FILE_KV=$dir/discovery DYN_REQUEST_PLANE=tcp DYN_RESPONSE_PLANE=tcp DYN_EVENT_PLANE=zmq
  export DYN_TCP_RPC_HOST=127.0.0.1 DYN_TCP_RESPONSE_STREAM_HOST=127.0.0.1 DYN_EVENT_PLANE_HOST=127.0.0.1 DYN_SYSTEM_HOST=127.0.0.1
  export DYN_ZMQ_BROKER_URL="xsub=tcp://127.0.0.1:$broker , xpub=tcp://127.0.0.1:$((broker + 1))"
  export DYN_REQUEST_TRACE=1 DYN_REQUEST_TRACE_SINKS=file DYN_REQUEST_TRACE_FILE_FORMAT=jsonl DYN_REQUEST_TRACE_OUTPUT_PATH=$dir/requests.jsonl

  parts=()
  trap 'kill "${parts[@]}" 2>/dev/null; wait' EXIT
  trap 'exit 0' INT TERM
  "$python" "$here/event_broker.py" "$broker" $((broker + 1)) >"$dir/broker.log" 2>&1 &
  parts+=($!)
  DYN_SYSTEM_PORT=$((port + 1)) "$python" -m dynamo.mocker --model-path "$home/model" --model-name tiny --num-workers 1 \
    --num-gpu-blocks-override 512 --block-size 16 --max-num-seqs 16 --max-model-len 8192 >"$dir/worker.log" 2>&1 &
  parts+=($!)
  "$python" -m dynamo.frontend --http-host 127.0.0.1 --http-port "$port" --router-mode round-robin >"$dir/frontend.log" 2>&1 &
  parts+=($!)
  wait -n || true # whichever ends first takes the others with it
  echo "dynamo: a part of it ended; see $dir/*.log" >&2
  exit 1
}

case "${1:-} $#" in
"install 1") install ;;
"check 1") check ;;
"run 3") install && run "$2" "$3" ;;
*) echo "usage: serve.sh install | serve.sh check | serve.sh run PORT DIR" >&2 && exit 2 ;;
esac
