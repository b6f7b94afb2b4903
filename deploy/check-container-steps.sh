#!/usr/bin/env bash
# Runs the steps of deploy/Containerfile where no container engine is at hand, and then what the
# image would run, as the image's user: starts it, asks /readyz, stops it with SIGTERM.
#
# Each stage gets a scratch root: this machine's own system, read-only, with an overlay that takes
# every write. So the base images are stood in for by this machine (Debian with a Rust toolchain);
# what is not shown is that the images named after FROM can be pulled. Needs root.
#
#   check-container-steps.sh                  everything, the release build included (minutes)
#   check-container-steps.sh --binary PATH    takes a built binary instead of the build step
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(dirname "$here")
binary=
if [[ "${1:-}" == --binary ]]; then
    binary=$(realpath "${2:?a path after --binary}")
elif (($# > 0)); then
    echo "usage: $0 [--binary PATH]" >&2
    exit 2
fi
if [[ -z "${HEADWATER_CONTAINER_CHECK:-}" ]]; then
    # A mount namespace of its own: every mount below goes with it.
    HEADWATER_CONTAINER_CHECK=1 exec unshare --mount --propagation private -- "$0" "$@"
fi

for engine in podman buildah docker; do
    if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then
        echo "note: $engine works here; '$engine build -f deploy/Containerfile .' is the real check"
    fi
done
echo "no container engine is used: the steps run in scratch roots over this machine's system"

scratch=$(mktemp -d)
running=
cleanup() {
    if [[ -n "$running" ]]; then
        kill "$running" 2>/dev/null || true
    fi
    cd /
    mount | awk -v at="$scratch" 'index($3, at) == 1 {print $3}' | sort -r | while read -r place; do
        umount "$place" || true
    done
    rm -rf "$scratch"
}
trap cleanup EXIT

# State of the stage that runs now.
stage_root=
workdir=/
user=0:0
declare_env=()
declare -A roots=()
entrypoint=
arguments=

begin_stage() {
    local name=$1
    stage_root="$scratch/$name"
    mkdir -p "$stage_root"/{upper,work,root}
    mount -t overlay overlay \
        -o "lowerdir=/,upperdir=$stage_root/upper,workdir=$stage_root/work" "$stage_root/root"
    mount -t proc proc "$stage_root/root/proc"
    mount --rbind /dev "$stage_root/root/dev"
    roots[$name]="$stage_root/root"
    workdir=/ user=0:0 declare_env=()
}

inside() {
    chroot --userspec="$user" "$stage_root/root" /usr/bin/env "${declare_env[@]}" \
        /bin/sh -c "cd '$workdir' && $1"
}

copy() {
    local from=$1 to=$2
    case "$from" in
    --from=*)
        local stage=${from#--from=}
        cp -a "${roots[$stage]}$to/." "$stage_root/root${3:-/}"
        ;;
    .)
        # What a checkout holds, without what it ignores.
        git -C "$source_dir" ls-files -z | tar -C "$source_dir" --null -T - -cf - |
            tar -C "$stage_root/root$workdir" -xf -
        ;;
    *)
        echo "COPY $from: not understood" >&2
        return 1
        ;;
    esac
}

run() {
    if [[ -n "$binary" && "$1" == "cargo build"* ]]; then
        echo "   (taken instead: $binary)"
        install -D "$binary" "$stage_root/root$workdir/target/release/headwater"
        return
    fi
    inside "$1"
}

number=0
while IFS= read -r line; do
    [[ -z "$line" || "$line" == \#* ]] && continue
    number=$((number + 1))
    word=${line%% *} rest=${line#* }
    echo "== $line"
    case "$word" in
    FROM)
        name="stage$number"
        [[ "$rest" == *" AS "* ]] && name=${rest##* AS }
        begin_stage "$name"
        ;;
    WORKDIR)
        workdir=$rest
        mkdir -p "$stage_root/root$workdir"
        ;;
    COPY)
        # shellcheck disable=SC2086  # the words of the line
        copy $rest
        ;;
    RUN) run "$rest" ;;
    USER) user=$rest ;;
    ENV) declare_env+=("$rest") ;;
    ENTRYPOINT) entrypoint=$rest ;;
    CMD) arguments=$rest ;;
    VOLUME | EXPOSE | STOPSIGNAL) ;;
    *)
        echo "step not understood: $line" >&2
        exit 1
        ;;
    esac
done <"$here/Containerfile"

echo "== the image's command, as $user"
[[ "$user" != 0* ]] || { echo "the image runs as root" >&2; exit 1; }
program=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])[0])' "$entrypoint")
# The same command, on ports of this machine only.
read -r kafka admin < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')
mapfile -t command < <(python3 -c '
import json, sys
for word in json.loads(sys.argv[1]):
    print(word.replace("0.0.0.0:9092", "127.0.0.1:" + sys.argv[2]).replace("0.0.0.0:9644", "127.0.0.1:" + sys.argv[3]))
' "$arguments" "$kafka" "$admin")

# What it links must be in the slim image: the C library and the compiler's own.
while read -r library; do
    # Packages know their files by the path before or after /lib moved into /usr.
    package=$({ dpkg -S "$library" || dpkg -S "$(realpath "$library")"; } 2>/dev/null | cut -d: -f1 || true)
    case "$package" in
    libc6 | libgcc-s1) ;;
    *)
        echo "$program needs $library of '$package', which a slim image lacks" >&2
        exit 1
        ;;
    esac
done < <(ldd "$stage_root/root$program" | grep -o '/[^ ]*')

# Only what the image sets: to the broker each HEADWATER_ variable is a setting.
chroot --userspec="$user" "$stage_root/root" /usr/bin/env -i "PATH=$PATH" "${declare_env[@]}" \
    /bin/sh -c "cd '$workdir' && exec \"\$@\"" sh \
    "$program" "${command[@]}" >"$scratch/log" 2>&1 &
running=$!
ready=0
for _ in $(seq 150); do
    if python3 "$source_dir/tests/compat/ready.py" "$admin" 2>/dev/null; then
        ready=1
        break
    fi
    kill -0 "$running" 2>/dev/null || break
    sleep 0.2
done
if ((ready == 0)); then
    echo "the broker did not become ready:" >&2
    cat "$scratch/log" >&2
    exit 1
fi
echo "   ready on 127.0.0.1:$kafka"
owner=$(stat -c %u:%g "$stage_root/root/var/lib/headwater")
[[ "$owner" == "$user" ]] || { echo "the data belongs to $owner" >&2; exit 1; }
kill "$running"
code=0
wait "$running" || code=$?
running=
((code == 0)) || { echo "SIGTERM: exit code $code" >&2; cat "$scratch/log" >&2; exit 1; }
echo "   SIGTERM: exit code 0"
echo "container steps: passed (in scratch roots, without a container engine)"
