#!/usr/bin/env bash
# Kafka's own tools: for each a happy path and, where it has some, errors with Kafka's own words.
# shellcheck source=../lib.sh
source "$(dirname "$0")/../lib.sh"

guard_bootstrap "${1:-}"
bootstrap=$1
jars kafka-tools "$compat_dir/kafka-tools/pom.xml"
# The steps are many and mostly independent: all failures are shown, not only the first.
failures=0
fail() {
    printf '  FAIL  %s\n' "$*" >&2
    failures=$((failures + 1))
}
topic=$(fresh_name tools)
group="$topic-group"
work=$(mktemp -d)
members=()
cleanup() {
    for pid in "${members[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

java_main() { timeout 60 java -Xmx192m -XX:TieredStopAtLevel=1 -cp "$jars" "$@"; }
tool() {
    local name=$1
    shift
    java_main "$name" --bootstrap-server "$bootstrap" "$@"
}
topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
groups() { tool org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"; }
configs() { tool kafka.admin.ConfigCommand "$@"; }
offsets() { tool org.apache.kafka.tools.GetOffsetShell "$@"; }

# says STEP TEXT COMMAND... : succeeds, and its output holds TEXT
says() {
    local step=$1 text=$2 out code=0
    shift 2
    out=$("$@" 2>&1) || code=$?
    if ((code != 0)) || [[ "$out" != *"$text"* ]]; then
        fail "$step: expected '$text' and exit code 0, got $code and: $out"
    else
        ok "$step"
    fi
}
# refuses STEP TEXT COMMAND... : fails, and its output holds TEXT
refuses() {
    local step=$1 text=$2 out code=0
    shift 2
    out=$("$@" 2>&1) || code=$?
    if ((code == 0)) || [[ "$out" != *"$text"* ]]; then
        fail "$step: expected '$text' and an error, got $code and: $out"
    else
        ok "$step"
    fi
}

topic_command() {
    says "topics: create" "Created topic $topic." \
        topics --create --topic "$topic" --partitions 2 --replication-factor 1 --config retention.ms=-1
    refuses "topics: create twice" "Topic '$topic' already exists." topics --create --topic "$topic"
    refuses "topics: bad name" "Topic name is invalid: 'a b' contains one or more characters other than" \
        topics --create --topic 'a b'
    refuses "topics: no partitions" "The partitions must be greater than 0" \
        topics --create --topic "$topic-none" --partitions 0
    says "topics: list" "$topic" topics --list
    says "topics: describe" "PartitionCount: 2" topics --describe --topic "$topic"
    says "topics: describe shows configs" "retention.ms=-1" topics --describe --topic "$topic"
    says "topics: more partitions" "" topics --alter --topic "$topic" --partitions 4
    says "topics: they are there" "PartitionCount: 4" topics --describe --topic "$topic"
    refuses "topics: fewer partitions" \
        "The topic $topic currently has 4 partition(s); 3 would not be an increase." \
        topics --alter --topic "$topic" --partitions 3
    refuses "topics: unknown" "Topic '$topic-unknown' does not exist as expected" \
        topics --describe --topic "$topic-unknown"
}

console() {
    local codec
    for codec in none gzip snappy lz4 zstd; do
        python3 -c '
import sys
for i in range(50):
    value = "NULL" if i % 10 == 3 else sys.argv[1] + "-" + str(i)
    print("trace:first,n:" + str(i) + ",trace:second\tkey-" + str(i) + "\t" + value)
' "$codec" | tool org.apache.kafka.tools.ConsoleProducer --topic "$topic" \
            --compression-codec "$codec" --reader-property parse.key=true \
            --reader-property parse.headers=true --reader-property null.marker=NULL \
            || fail "console producer: $codec"
        python3 -c '
import sys
for i in range(50):
    value = "null" if i % 10 == 3 else sys.argv[1] + "-" + str(i)
    print("trace:first,n:" + str(i) + ",trace:second\tkey-" + str(i) + "\t" + value)
' "$codec" >>"$work/expected"
    done
    ok "console producer: five codecs, keys, headers, tombstones"
    tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$topic" --from-beginning \
        --max-messages 250 --timeout-ms 30000 --formatter-property print.key=true \
        --formatter-property print.headers=true >"$work/got" 2>"$work/err" \
        || fail "console consumer: $(head -n 5 "$work/err")"
    diff <(sort "$work/expected") <(sort "$work/got") >"$work/diff" \
        || fail "console consumer: $(head -n 5 "$work/diff")"
    ok "console consumer: contents exact"
}

get_offsets() {
    equal "get-offsets: they add up" 250 "$(offsets --topic "$topic" | awk -F: '{sum += $3} END {print sum}')"
    equal "get-offsets: earliest" "$topic:0:0" \
        "$(offsets --topic-partitions "$topic:0" --time earliest)"
    equal "get-offsets: by time, beyond the end" "" \
        "$(offsets --topic-partitions "$topic:0" --time $(($(date +%s%3N) + 600000)))"
    refuses "get-offsets: unknown topic" "Could not match any topic-partitions" \
        offsets --topic "$topic-unknown"
}

# A verifiable consumer in the background.
member() {
    java -Xmx192m -XX:TieredStopAtLevel=1 -cp "$jars" org.apache.kafka.tools.VerifiableConsumer \
        --bootstrap-server "$bootstrap" --topic "$topic" --group-id "$group" \
        --session-timeout 10000 --reset-policy earliest >"$work/$1.json" 2>"$work/$1.err" &
    members+=($!)
}
consumed() {
    [[ $(cat "$work"/{one,two}.json | python3 -c '
import json, sys
print(sum(e["count"] for e in map(json.loads, sys.stdin) if e["name"] == "records_consumed"))') -ge $1 ]]
}
# owns NAME COUNT
owns() {
    [[ $(python3 -c '
import json, sys
owned = set()
for event in map(json.loads, sys.stdin):
    places = {(p["topic"], p["partition"]) for p in event.get("partitions", [])}
    if event["name"] == "partitions_assigned":
        owned |= places
    if event["name"] == "partitions_revoked":
        owned -= places
print(len(owned))' <"$work/$1.json") == "$2" ]]
}
await() {
    local step=$1 deadline=$((SECONDS + 60))
    shift
    until "$@"; do
        if ((SECONDS >= deadline)); then
            fail "$step: not within its time: $(tail -n 3 "$work"/*.err "$work"/*.json)"
            return
        fi
        sleep 0.2
    done
    ok "$step"
}

verifiable() {
    says "verifiable producer" '"sent":1000,"acked":1000' \
        tool org.apache.kafka.tools.VerifiableProducer --topic "$topic" --max-messages 1000 --acks -1
    : >"$work/two.json"
    member one
    await "verifiable consumer: has every partition" owns one 4
    member two
    await "verifiable consumers: share them" owns one 2
    await "verifiable consumers: both have some" owns two 2
    await "verifiable consumers: every record" consumed 1250
    says "consumer-groups: members" "CONSUMER-ID" groups --describe --group "$group" --members
    says "consumer-groups: state" "Stable" groups --describe --group "$group" --state
    refuses_output "consumer-groups: a group in use is not deleted" "GroupNotEmptyException" \
        groups --delete --group "$group"
    for pid in "${members[@]}"; do
        kill "$pid"
        wait "$pid" || true
    done
    members=()
}
# refuses_output STEP TEXT COMMAND... : its output holds TEXT, whatever its exit code
refuses_output() {
    local step=$1 text=$2 out
    shift 2
    out=$("$@" 2>&1) || true
    if [[ "$out" == *"$text"* ]]; then
        ok "$step"
    else
        fail "$step: expected '$text', got: $out"
    fi
}

consumer_groups() {
    says "consumer-groups: list" "$group" groups --list
    equal "consumer-groups: lag is 0" "0 1250" "$(groups --describe --group "$group" 2>/dev/null |
        awk -v topic="$topic" '$2 == topic {lag += $6; end += $5} END {print lag, end}')"
    says "consumer-groups: reset" "$topic" \
        groups --reset-offsets --group "$group" --topic "$topic" --to-earliest --execute
    equal "consumer-groups: lag is everything" "1250" "$(groups --describe --group "$group" 2>/dev/null |
        awk -v topic="$topic" '$2 == topic {lag += $6} END {print lag}')"
    says "consumer-groups: delete offsets" "$topic" \
        groups --delete-offsets --group "$group" --topic "$topic:0"
    refuses_output "consumer-groups: unknown" "Group $group-unknown not found." \
        groups --describe --group "$group-unknown"
    says "consumer-groups: delete" "Deletion of requested consumer groups ('$group') was successful." \
        groups --delete --group "$group"
}

config_command() {
    local entity=(--entity-type topics --entity-name "$topic")
    says "configs: alter" "Completed updating config for topic $topic." \
        configs --alter "${entity[@]}" --add-config max.message.bytes=2000000,segment.bytes=10485760
    says "configs: describe" "max.message.bytes=2000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:max.message.bytes=2000000" \
        configs --describe "${entity[@]}"
    says "configs: all" "cleanup.policy=delete" configs --describe --all "${entity[@]}"
    says "configs: delete one" "Completed updating" \
        configs --alter "${entity[@]}" --delete-config segment.bytes
    refuses "configs: not a number" \
        "Invalid value x for configuration retention.ms: Not a number of type LONG" \
        configs --alter "${entity[@]}" --add-config retention.ms=x
    refuses "configs: unknown name" "Unknown topic config name: no.such.config" \
        configs --alter "${entity[@]}" --add-config no.such.config=1
    says "configs: broker" "node.id=" configs --describe --all --entity-type brokers --entity-name "$node"
}

delete_records() {
    local low
    printf '{"partitions":[{"topic":"%s","partition":0,"offset":5}],"version":1}' "$topic" >"$work/records"
    says "delete-records" "low_watermark: 5" \
        tool org.apache.kafka.tools.DeleteRecordsCommand --offset-json-file "$work/records"
    low=$(offsets --topic-partitions "$topic:0" --time earliest)
    equal "delete-records: the start moved" "$topic:0:5" "$low"
    printf '{"partitions":[{"topic":"%s","partition":0,"offset":999999}],"version":1}' "$topic" >"$work/records"
    refuses_output "delete-records: beyond the end" "OffsetOutOfRangeException" \
        tool org.apache.kafka.tools.DeleteRecordsCommand --offset-json-file "$work/records"
    equal "delete-records: reading starts there" 5 "$(tool \
        org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$topic" --partition 0 --offset earliest \
        --max-messages 1 --timeout-ms 20000 --formatter-property print.offset=true \
        --formatter-property print.value=false 2>/dev/null | sed 's/Offset://' | cut -f1)"
}

log_dirs() {
    says "log-dirs" "\"partition\":\"$topic-0\"" \
        tool org.apache.kafka.tools.LogDirsCommand --describe --topic-list "$topic"
    says "broker-api-versions" "Produce(0):" tool org.apache.kafka.tools.BrokerApiVersionsCommand
    says "cluster: id" "Cluster ID: " java_main org.apache.kafka.tools.ClusterTool cluster-id \
        --bootstrap-server "$bootstrap"
}

performance() {
    says "producer-perf-test" "20000 records sent" tool org.apache.kafka.tools.ProducerPerformance \
        --topic "$topic" --num-records 20000 --record-size 1000 --throughput -1 \
        --command-property compression.type=lz4
    equal "producer-perf-test: they are there" 21250 \
        "$(offsets --topic "$topic" | awk -F: '{sum += $3} END {print sum}')"
}

delete() {
    says "topics: delete" "" topics --delete --topic "$topic"
    refuses "topics: delete twice" "Topic '$topic' does not exist as expected" \
        topics --delete --topic "$topic"
}

topic_command
node=$(topics --describe --topic "$topic" 2>/dev/null | sed -n 's/.*Leader: \([0-9]*\).*/\1/p' | head -n 1 || true)
console
get_offsets
verifiable
consumer_groups
config_command
delete_records
log_dirs
performance
delete
if ((failures > 0)); then
    echo "  $failures steps failed" >&2
    exit 1
fi
