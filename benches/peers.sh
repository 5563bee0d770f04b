#!/usr/bin/env bash
# What rsyslog, syslog-ng, Fluent Bit, Vector and two receivers in Go use for the same traffic, beside fanin:
# processor time of the whole process.
#
#   benches/peers.sh [ROUNDS [MIB]]
#
# Each takes 256-byte lines over 50 connections and writes them to /dev/null, through its file output: not all
# have one that only counts. Those that have run twice: fanin as --sink file:/dev/null and as --sink null. Those
# in Go are benches/peers/receiver.go. The receive buffer is what each sets by itself. The senders are those of
# `cargo bench --bench compare`. What is not in PATH is skipped with a word. rsyslog and syslog-ng cannot both be
# installed on Debian: unpack one (.ci/run does: RSYSLOG_MODDIR says where rsyslog's modules are then).
set -euo pipefail
cd "$(dirname "$0")/.."
rounds="${1:-7}" mib="${2:-256}" size=256 connections=50 write=262144
# Whole writes of each connection.
bytes=$((((mib << 20) / write + connections - 1) / connections * connections * write))
export PATH="$PATH:/usr/sbin:/sbin"
place="$(mktemp -d)"
pid=
trap '[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true; rm -rf "$place"' EXIT

cargo build -q --release
bench="$(cargo bench --bench compare --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\))/\1/p')"
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

rsyslog() {
    cat >"$place/rsyslog.conf" <<CONF
global(workDirectory="$place" maxMessageSize="64k")
module(load="imptcp")
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imptcp" port="$port" address="127.0.0.1" ruleset="out")
ruleset(name="out" queue.type="direct") { action(type="omfile" file="$out" template="raw" asyncWriting="off") }
CONF
    exec rsyslogd -n -i "$place/pid" -f "$place/rsyslog.conf" ${RSYSLOG_MODDIR:+-M "$RSYSLOG_MODDIR"}
}

syslog_ng() {
    cat >"$place/ng.conf" <<CONF
@version: 3.38
options { stats-freq(0); threaded(yes); };
source in { network(ip("127.0.0.1") port($port) transport("tcp") max-connections(1000) flags(no-parse) log-iw-size(100000)); };
destination out { file("$out" template("\${MSG}\n")); };
log { source(in); destination(out); flags(flow-control); };
CONF
    exec syslog-ng -F --no-caps -f "$place/ng.conf" -R "$place/persist" -p "$place/pid" -c "$place/control"
}

# Without Mem_Buf_Limit, at which it closes its connections and loses what they sent: so its memory has no bound.
# Of some other sizes of chunks, flushes and threads that were tried none took less.
fluent_bit() { fluent_bit_to "Name file
    Path ${out%/*}
    File ${out##*/}
    Format template
    Template {log}"; }
fluent_bit_null() { fluent_bit_to "Name null"; }

fluent_bit_to() {
    cat >"$place/fluent-bit.conf" <<CONF
[SERVICE]
    Flush 0.1
    Log_Level warn
[INPUT]
    Name tcp
    Listen 127.0.0.1
    Port $port
    Format none
    Separator \n
    Chunk_Size 512
    Buffer_Size 1024
    net.backlog 1024
[OUTPUT]
    Match *
    $1
CONF
    exec fluent-bit -c "$place/fluent-bit.conf"
}

# It writes each line by itself.
vector() { vector_to "type: file, path: $out, encoding: { codec: text }"; }
vector_null() { vector_to "type: blackhole, print_interval_secs: 0"; }

vector_to() {
    mkdir -p "$place/vector"
    cat >"$place/vector.yaml" <<CONF
data_dir: $place/vector
sources:
  in: { type: socket, mode: tcp, address: "127.0.0.1:$port", decoding: { codec: bytes }, framing: { method: newline_delimited } }
sinks:
  out: { inputs: [in], $1 }
CONF
    exec vector --config "$place/vector.yaml"
}

go_lines() { exec "$place/receiver" "127.0.0.1:$port" "$out" lines; }
go_chunks() { exec "$place/receiver" "127.0.0.1:$port" "$out" chunks; }

fanin_file() { exec target/release/fanin serve --listen "tcp://127.0.0.1:$port" --sink "file:$out"; }
fanin_null() { exec target/release/fanin serve --listen "tcp://127.0.0.1:$port" --sink null; }

# Nanoseconds of the process, threads that have ended included: the clock of its processor time.
used() { python3 -c 'import sys, time; print(time.clock_gettime_ns(~int(sys.argv[1]) << 3 | 2))' "$pid"; }

is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# Until next to nothing is used any more, as by timers: all that was read is written.
at_rest() {
    local before
    for _ in $(seq 150); do
        before="$(used)"
        sleep 0.2
        [ $(($(used) - before)) -gt 2000000 ] || return 0
    done
    echo "it is never at rest" >&2
    exit 1
}

# Milliseconds of processor time, and of time until all was read.
once() {
    port="$(free_port)"
    "$1" >"$place/log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        is_open && break
        kill -0 "$pid" 2>/dev/null || { echo "$1 ended at once:" >&2; cat "$place/log" >&2; exit 1; }
        sleep 0.1
    done
    at_rest
    local before after wall
    before="$(used)"
    wall="$(echo go | "$bench" send "127.0.0.1:$port" --framing line --size "$size" --connections "$connections" \
        --write "$write" --bytes "$bytes" | awk 'NR == 2 { printf "%.0f", $1 / 1e6 }')"
    at_rest
    after="$(used)"
    kill "$pid" && wait "$pid" 2>/dev/null || true
    pid=
    echo "$(((after - before) / 1000000)) $wall"
}

who=(fanin_file fanin_null)
for peer in rsyslog:rsyslogd syslog_ng:syslog-ng fluent_bit:fluent-bit:twice vector:vector:twice; do
    program="${peer#*:}" program="${program%:twice}"
    if type -P "$program" >/dev/null; then
        who+=("${peer%%:*}")
        case "$peer" in *:twice) who+=("${peer%%:*}_null") ;; esac
    else
        echo "SKIP $program: not in PATH"
    fi
done

if type -P go >/dev/null; then
    GOCACHE="$place/go" go build -o "$place/receiver" benches/peers/receiver.go
    who+=(go_lines go_chunks)
else
    echo "SKIP go: not in PATH"
fi

# Into a file: who loses or changes what it gets is not to be compared.
check() {
    out="$place/out"
    once "$1" >/dev/null
    local written lines
    written="$(stat -c %s "$out")" lines="$(wc -l <"$out")"
    rm "$out"
    if [ "$written $lines" != "$bytes $((bytes / size))" ]; then
        echo "$1 wrote $written bytes in $lines lines, and not what it was sent" >&2
        exit 1
    fi
}

# Before the rounds, and after them: to /dev/null nobody can see.
check_all() {
    for one in "${who[@]}"; do
        case "$one" in *_null) ;; *) check "$one" ;; esac
    done
}

check_all
out=/dev/null

echo "$rounds rounds of $((bytes >> 20)) MiB, $size-byte lines, $connections connections"
for round in $(seq "$rounds"); do
    for one in "${who[@]}"; do
        echo "$one $round $(once "$one")" | tee -a "$place/seen" >&2
    done
done
check_all
python3 - "$place/seen" <<'PY'
import statistics, sys
seen = {}
for line in open(sys.argv[1]):
    who, round_, cpu, wall = line.split()
    seen.setdefault(who, []).append((float(cpu), float(wall)))
base = seen["fanin_file"]
print(f"{'':15} {'CPU ms (min-max)':>22} {'CPU / fanin_file':>20} {'wall / fanin_file':>20}")
for who, runs in seen.items():
    cpu = [c for c, _ in runs]
    ratio = lambda at: sorted(a[at] / b[at] for a, b in zip(runs, base))
    cell = lambda r: f"{statistics.median(r):.2f} [{r[0]:.2f} {r[-1]:.2f}]"
    middle = f"{statistics.median(cpu):.0f} ({min(cpu):.0f}-{max(cpu):.0f})"
    print(f"{who:15} {middle:>22} {cell(ratio(0)):>20} {cell(ratio(1)):>20}")
PY
