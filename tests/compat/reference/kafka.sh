#!/usr/bin/env bash
# Apache Kafka itself, one node: what a script must pass before it may judge Headwater.
# `kafka.sh start DIR PORT` | `kill9 DIR` | `again DIR` | `stop DIR`
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

launch() {
    local dir=$1
    nohup java -Xmx512m -cp "$jars" kafka.Kafka "$dir/server.properties" \
        >>"$dir/server.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    wait_port "$(cat "$dir/port")" 60 "$(cat "$dir/pid")"
}

case "${1:-}" in
install)
    jars kafka-tools "$compat_dir/kafka-tools/pom.xml"
    ;;
start)
    dir=$2 port=$3
    jars kafka-tools "$compat_dir/kafka-tools/pom.xml"
    controller=$(free_port)
    rm -rf "$dir/data"
    mkdir -p "$dir"
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$dir/data
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
    id=$(java -cp "$jars" kafka.tools.StorageTool random-uuid 2>/dev/null)
    java -cp "$jars" kafka.tools.StorageTool format -t "$id" -c "$dir/server.properties" \
        >"$dir/format.log" 2>&1
    echo "$port" >"$dir/port"
    rm -f "$dir/server.log"
    launch "$dir"
    ;;
again)
    jars kafka-tools "$compat_dir/kafka-tools/pom.xml"
    launch "$2"
    ;;
kill9)
    kill -9 "$(cat "$2/pid")"
    ;;
stop)
    stop_pid "$(cat "$2/pid")" 40
    ;;
*)
    echo "usage: $0 install | start DIR PORT | kill9 DIR | again DIR | stop DIR" >&2
    exit 2
    ;;
esac
