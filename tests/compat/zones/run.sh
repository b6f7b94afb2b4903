#!/usr/bin/env bash
# Consumers of another zone than the leader's read from the broker of their own: kcat, and Kafka's
# console consumer. The cluster is this script's own: a controller and broker in zone a, a broker in
# zone b. $HEADWATER_COMPAT_BROKER is the script that starts brokers, $HEADWATER_COMPAT_FOLDER a
# folder for them.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
: "${HEADWATER_COMPAT_BROKER:?the script that starts brokers}"
: "${HEADWATER_COMPAT_FOLDER:?a folder for them}"
: "${HEADWATER_BINARY:?the broker}"
jars kafka-tools "$compat_dir/kafka-tools/pom.xml"
folder="$HEADWATER_COMPAT_FOLDER/zones"
mkdir -p "$folder"
topic=$(fresh_name zones)
records=20000
controller=$(free_port)
started=()
cleanup() {
    for node in "${started[@]}"; do
        "$HEADWATER_COMPAT_BROKER" stop "$folder/$node" || true
    done
}
trap cleanup EXIT

# node NUMBER ZONE LISTENERS ROLES
node() {
    local settings=("node.id=$1" "broker.rack=$2" "process.roles=$4"
        "listeners=PLAINTEXT://127.0.0.1:${ports[$1]}$3"
        "controller.quorum.voters=1@127.0.0.1:$controller"
        "object.store.url=$folder/objects" wal.backend=object wal.object.puts.per.second=500
        replica.selector.class=RackAwareReplicaSelector replica.selector.min.bytes=10000
        upload.age.ms=500 balancer.enable=false)
    local arguments=() setting
    for setting in "${settings[@]}"; do
        arguments+=(--set "$setting")
    done
    started+=("$1")
    "$HEADWATER_COMPAT_BROKER" start "$folder/$1" "${ports[$1]}" "${arguments[@]}" \
        || fail "node $1 does not start"
}
ports=(0 "$(free_port)" "$(free_port)")
node 1 a ",CONTROLLER://127.0.0.1:$controller" controller,broker
node 2 b "" broker
bootstrap="127.0.0.1:${ports[1]}"

beside() {
    python3 "$compat_dir/zones/metric.py" "$(cat "$folder/$1/admin-port")" \
        headwater_broker_followed_bytes_total
}
# kcat_in ZONE : all values of the topic
kcat_in() {
    timeout 60 kcat -b "$bootstrap" -X "client.rack=$1" -X check.crcs=true \
        -X fetch.message.max.bytes=50000 -C -t "$topic" -p 0 -o beginning -c "$records" -q
}
# java_in ZONE : the same
java_in() {
    timeout 60 java -Xmx192m -XX:TieredStopAtLevel=1 -cp "$jars" \
        org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$bootstrap" \
        --topic "$topic" --from-beginning --max-messages "$records" --timeout-ms 30000 \
        --command-property "client.rack=$1" --command-property max.partition.fetch.bytes=50000
}

"$HEADWATER_BINARY" topic create "$topic" --bootstrap "$bootstrap" >/dev/null
"$HEADWATER_BINARY" topic move "$topic" --to 1 --bootstrap "$bootstrap" >/dev/null
python3 -c '
import sys
for i in range(int(sys.argv[1])):
    print(f"value-{i}-" + "x" * (i % 300))
' "$records" >"$folder/expected"
"$HEADWATER_BINARY" produce "$topic" --bootstrap "$bootstrap" <"$folder/expected"

# How soon it lies in the store is not known: until it is read from there.
deadline=$((SECONDS + 60))
until kcat_in b >/dev/null && (($(beside 2) > 0)); do
    ((SECONDS < deadline)) || fail "kcat: nothing is read in its zone"
done
for client in kcat java; do
    for zone in a b c; do
        before=$(beside 2)
        "${client}_in" "$zone" >"$folder/got" 2>"$folder/err" \
            || fail "$client in zone $zone: $(head -n 5 "$folder/err")"
        cmp "$folder/expected" "$folder/got" || fail "$client in zone $zone: other records came out"
        bytes=$(($(beside 2) - before))
        if [[ "$zone" == b ]]; then
            ((bytes > 1000000)) || fail "$client in zone b: $bytes bytes came from its zone"
            ok "$client in zone b: $records records exact, $bytes bytes from its zone's broker"
        else
            ((bytes == 0)) || fail "$client in zone $zone: $bytes bytes came from zone b"
            ok "$client in zone $zone: $records records exact, from the leader"
        fi
    done
done
equal "nothing is read beside the leader at the leader" 0 "$(beside 1)"
