#!/usr/bin/env bash
# One Apache Kafka broker in the foreground, on loopback, KRaft mode (it is its own controller). SIGTERM or Ctrl-C stops it.
usage() {
  cat <<'TEXT'
usage: deploy/kafka/kafka.sh [--port N] [--folder DIR] [--heap SIZE] [--fetch-only]
  --port N       port for clients (default 9092); the controller listens on N + 1, or on KAFKA_CONTROLLER_PORT
  --folder DIR   data, settings and logs (default: the cache folder's broker/); one broker per folder
  --heap SIZE    heap of the Java machine (default 512m)
  --fetch-only   only fetch the jars (Maven, once), start nothing
The jars live in ${XDG_CACHE_HOME:-~/.cache}/coldaisle/kafka/libs. Java 17 or newer is needed to start, Maven to fetch.
TEXT
}
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/coldaisle/kafka
port=9092 folder= heap=512m fetch_only=
fail() { echo "kafka.sh: $1" >&2; exit "${2:-1}"; }

while [ $# -gt 0 ]; do
  case $1 in
    --fetch-only) fetch_only=yes; shift ;;
    --port | --folder | --heap)
      [ $# -ge 2 ] || fail "$1 needs a value (see --help)" 2
      case $1 in --port) port=$2 ;; --folder) folder=$2 ;; --heap) heap=$2 ;; esac
      shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) fail "unknown argument '$1' (see --help)" 2 ;;
  esac
done
[[ $port =~ ^[0-9]+$ ]] && [ "$port" -ge 1 ] && [ "$port" -le 65535 ] || fail "--port '$port' is no port: give 1 to 65535" 2
controller=${KAFKA_CONTROLLER_PORT:-$((port + 1))}

# The jars of another version of the POM are not these: the stamp is the POM itself.
if ! cmp -s "$here/pom.xml" "$cache/libs/pom.xml"; then
  command -v mvn >/dev/null || fail "mvn is needed once to fetch Kafka's jars: install Maven (Debian: apt-get install maven)" 3
  mkdir -p "$cache"
  part=$(mktemp -d "$cache/libs.XXXXXX")
  trap 'rm -rf "$part"' EXIT
  mvn -q -B -f "$here/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$part" >&2 || fail "Maven could not fetch Kafka's jars (see above)" 3
  cp "$here/pom.xml" "$part/pom.xml"
  rm -rf "$cache/libs"
  mv "$part" "$cache/libs"
  trap - EXIT
fi
[ -z "$fetch_only" ] || exit 0

command -v java >/dev/null || fail "java 17 or newer is needed: install it (Debian: apt-get install default-jre-headless)" 3
folder=${folder:-$cache/broker}
mkdir -p "$folder" || fail "cannot write to folder '$folder': choose another with --folder" 3
folder=$(cd "$folder" && pwd)
for wanted in "$port" "$controller"; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$wanted") 2>/dev/null; then fail "port $wanted is in use: choose another with --port" 3; fi
done

cat >"$folder/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
# Topics are made by coldaisle with their retention; a misspelt one must fail.
auto.create.topics.enable=false
# One broker: Kafka's own topics cannot be replicated.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Back within seconds after a crash, where the default waits 9 s for the dead session to end.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
EOF
cat >"$folder/log4j2.properties" <<'EOF'
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %-5p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
EOF

java=(java "-Xms128m" "-Xmx$heap" -XX:+UseSerialGC "-Dkafka.logs.dir=$folder/logs"
  "-Dlog4j2.configurationFile=$folder/log4j2.properties" -cp "$cache/libs/*")
if [ ! -f "$folder/data/meta.properties" ]; then
  "${java[@]}" kafka.tools.StorageTool format --standalone -c "$folder/server.properties" \
    -t "$("${java[@]}" kafka.tools.StorageTool random-uuid | tail -n 1)" >"$folder/format.log" 2>&1 ||
    fail "cannot format '$folder/data': $(tail -n 1 "$folder/format.log")" 3
fi
echo "kafka.sh: broker on 127.0.0.1:$port, folder $folder"
exec "${java[@]}" kafka.Kafka "$folder/server.properties"
