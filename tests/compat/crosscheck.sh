#!/usr/bin/env bash
# Checks every (API key, version) served, and record batches of every codec, against Kafka's Java
# classes, both ways: what one side encodes the other decodes and encodes to the same bytes.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

repo=$(cd "$compat_dir/../.." && pwd)
crosscheck="$repo/protocol/crosscheck"
jars crosscheck-jars "$crosscheck/pom.xml"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
javac -cp "$jars" -d "$work/classes" "$crosscheck/CrossCheck.java"
java=(java -XX:TieredStopAtLevel=1 -cp "$work/classes:$jars" CrossCheck)

cargo build --quiet --manifest-path "$repo/Cargo.toml" \
    -p protocol --example crosscheck --features test-util
target=${CARGO_TARGET_DIR:-$repo/target}
ours=("$target/debug/examples/crosscheck")

"${ours[@]}" emit >"$work/ours"
"${java[@]}" read <"$work/ours" >"$work/results"
sort -u -k1,4 <(cut -d' ' -f1-4 "$work/ours" | grep '^message') | "${java[@]}" write >"$work/theirs"
"${ours[@]}" check <"$work/theirs" >>"$work/results"

passed=$(grep -c '^ok ' "$work/results" || true)
failed=$(grep -c -v '^ok ' "$work/results" || true)
expected=$(cat "$work/ours" "$work/theirs" | wc -l)
grep -v '^ok ' "$work/results" | cut -c1-400 | head -n 40 || true
if ((passed + failed != expected || passed == 0)); then
    echo "only $((passed + failed)) of $expected lines were checked" >&2
    failed=$((failed + 1))
fi

# What the generator wrote is what it would write now.
python3 "$repo/protocol/generator/generate.py" "$compat_cache"/crosscheck-jars/kafka-clients-*.jar \
    "$work/generated"
if diff -r "$work/generated/generated" "$repo/protocol/src/generated" &&
    diff "$work/generated/guard/tables.txt" "$repo/protocol/src/guard/tables.txt"; then
    passed=$((passed + 1))
else
    echo "protocol/generator would write other files than are checked in" >&2
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
((failed == 0))
