#!/usr/bin/env bash
# Install the real counterparts that `make test-real` runs against: Debian packages as root, Kafka's jars into the cache folder.
# Quick, and without root, when all is there. Prints one line a part; exits 1 when a part could not be had.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# part, command that proves it is there, Debian packages
parts=(
  "Chromium|chromium|chromium"
  "ChromeDriver|chromedriver|chromium-driver"
  "HAProxy|haproxy|haproxy"
  "Alertmanager|prometheus-alertmanager|prometheus-alertmanager"
  "Java|java|default-jre-headless"
  "Maven|mvn|maven"
)
has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

packages=()
for part in "${parts[@]}"; do
  IFS='|' read -r _ command package <<<"$part"
  has "$command" || packages+=("$package")
done

why=
if [ ${#packages[@]} -gt 0 ]; then
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if has sudo && sudo -n true 2>/dev/null; then as_root=(sudo -n); else why="needs root: run this script as root once"; fi
  fi
  has apt-get || why="no apt-get here: install it by hand"
  if [ -z "$why" ]; then
    # A policy of 101 keeps the services from starting at installation: the tests start their own.
    policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] || {
      printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
      "${as_root[@]}" chmod 755 "$policy"
      trap '"${as_root[@]}" rm -f "$policy"; rm -f "$log"' EXIT
    }
    {
      "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
    } >"$log" 2>&1 || why="apt-get failed: $(grep -E '^E:' "$log" | head -n 1)"
  fi
fi

failed=0
for part in "${parts[@]}"; do
  IFS='|' read -r name command package <<<"$part"
  if has "$command"; then
    echo "ok       $name ($(command -v "$command" || echo "/usr/sbin/$command"))"
  else
    echo "MISSING  $name (package $package): ${why:-not there after the installation}"
    failed=1
  fi
done

if "$root/tests/real/dynamo/serve.sh" install >"$log" 2>&1; then
  echo "ok       ai-dynamo's mock LLM service ($("$root/tests/real/dynamo/serve.sh" check 2>&1 | tail -n 1))"
else
  echo "MISSING  ai-dynamo's mock LLM service: $(tail -n 1 "$log")"
  failed=1
fi

if "$root/deploy/kafka/kafka.sh" --fetch-only >"$log" 2>&1; then
  echo "ok       Apache Kafka (jars in ${XDG_CACHE_HOME:-$HOME/.cache}/coldaisle/kafka/libs)"
else
  echo "MISSING  Apache Kafka: $(tail -n 1 "$log")"
  failed=1
fi
exit $failed
