#!/usr/bin/env bash
# How long from exec to /readyz on an empty folder, and what an idle node costs.
# Usage: benches/startup.sh [runs]; BIN chooses the binary (default bin/dist/coracle).
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-bin/dist/coracle}
runs=${1:-5}
port=${PORT:-16443}
[ -x "$bin" ] || { echo "there is no $bin: run 'make dist' first" >&2; exit 1; }

work=$(mktemp -d)
pid=""
clean() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  wait 2>/dev/null || true
  "$bin" down --data-dir "$work/data" --purge >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT INT TERM

ms() { echo $(( ($2 - $1) / 1000000 )); }
ready=() said=()
for _ in $(seq "$runs"); do
  mkfifo "$work/out"
  begin=$(date +%s%N)
  "$bin" up --data-dir "$work/data" --listen "$port" >"$work/out" 2>"$work/log" &
  pid=$!
  exec 3<"$work/out"
  read -r line <&3
  # The line says that the API serves; asking it once proves that it does.
  [ "$(curl -sk "https://127.0.0.1:$port/readyz")" = ok ] || { echo "not ready: $line" >&2; cat "$work/log" >&2; exit 1; }
  ready+=("$(ms "$begin" "$(date +%s%N)")")
  said+=("$(grep -o '[0-9]* ms' <<<"$line" | cut -d' ' -f1)")
  if [ ${#ready[@]} -eq "$runs" ]; then
    # Let the node settle, then look at it for a minute.
    sleep 20
    rss=$(awk '/VmRSS/ {print $2}' "/proc/$pid/status")
    anon=$(awk '/RssAnon/ {print $2}' "/proc/$pid/status")
    hz=$(getconf CLK_TCK)
    ticks() { awk '{print $14 + $15}' "/proc/$pid/stat"; }
    before=$(ticks); sleep 60; after=$(ticks)
    cpu=$(awk -v t=$((after - before)) -v hz="$hz" 'BEGIN { printf "%.2f", 100 * t / hz / 60 }')
  fi
  kill "$pid"; wait "$pid" || true; pid=""
  exec 3<&-
  rm "$work/out"
  "$bin" down --data-dir "$work/data" --purge >/dev/null
done

median() { printf '%s\n' "$@" | sort -n | awk '{a[NR]=$1} END {print a[int((NR+1)/2)]}'; }
range() { printf '%s\n' "$@" | sort -n | awk 'NR==1{a=$1} {b=$1} END {print a "–" b}'; }
echo "Start and idle cost of one node (server + agent), $(basename "$bin") of $(stat -c %s "$bin" | numfmt --to=iec), $runs runs"
echo
echo "| what | median | range |"
echo "| --- | --- | --- |"
echo "| exec → \`/readyz\` answered ok (with curl's own start) | $(median "${ready[@]}") ms | $(range "${ready[@]}") |"
echo "| exec → the ready line, as the program counts | $(median "${said[@]}") ms | $(range "${said[@]}") |"
echo "| resident memory, idle | $((rss / 1024)) MiB | of it anonymous: $((anon / 1024)) MiB |"
echo "| CPU, idle, over 60 s | $cpu % of a core | |"
