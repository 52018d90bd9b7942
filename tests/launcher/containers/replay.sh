#!/bin/sh
# Stands in for a task of NVIDIA's images: prints what it is told to print, and ends as it is told to end.
#
# Options are words NAME=VALUE in the variable REPLAY, then words replay.NAME=VALUE among the arguments; the later one counts.
#
#   lines=N           print `line 0` to `line N-1`; with width=W padded to W characters, with stderr_every=K each K-th on stderr
#   rate=R            so many lines a second; 0 (as fast as it goes) by default
#   epochs=N          before that, print a training of N epochs, pause=S seconds apart
#   show=args,env,id,files   before that, print each argument in brackets, the environment, uid:gid and HOME, files=GLOB
#   stdout=T stderr=T print T there (`_` stands for a blank)
#   write=PATH        write the arguments to a file
#   sleep=S           wait so many seconds before the end
#   memory=MIB        take so much memory and keep it; 0: until something breaks
#   status=PASS|FAIL|none   of the last line; by default it fits the exit code
#   exit=N            exit code
#   signals=ignore    ignore SIGINT and SIGTERM; otherwise they end it with 128 + N and `Execution status: FAIL`
#   grace=S           take so many seconds to end after a signal
task=${0##*/}
lines=0 rate=0 width=0 stderr_every=0 epochs=0 pause=0 show='' files='' stdout='' stderr='' write='' sleep=0 memory='' status='' exit=0
signals='' grace=0

option() {
  case ${1%%=*} in
    lines | rate | width | stderr_every | epochs | pause | show | files | stdout | stderr | write | sleep | memory | status | exit | signals | grace)
      eval "${1%%=*}=\${1#*=}" ;;
    *) echo "replay: no option ${1%%=*}" >&2; exit 64 ;;
  esac
}
for word in $REPLAY; do option "$word"; done
for word in "$@"; do case $word in replay.*=*) option "${word#replay.}" ;; esac; done

leave() {
  trap '' INT TERM
  echo "Stopped by signal $1."
  sleep "$grace"
  echo 'Execution status: FAIL'
  exit $((128 + $1))
}
if [ "$signals" = ignore ]; then trap '' INT TERM; else trap 'leave 2' INT; trap 'leave 15' TERM; fi

nap() { # in steps, because the shell hears a signal only between two commands
  ticks=$(awk -v s="$1" 'BEGIN { print int(s * 20 + 0.5) }')
  while [ "$ticks" -gt 0 ]; do usleep 50000; ticks=$((ticks - 1)); done
}

print_lines() { # from $1 up to, but not including, $2
  awk -v a="$1" -v b="$2" -v w="$width" -v k="$stderr_every" 'BEGIN {
    pad = sprintf("%" w "s", ""); gsub(/ /, "x", pad)
    for (i = a; i < b; i++) {
      text = "line " i
      if (length(text) < w) text = text " " substr(pad, 1, w - length(text) - 1)
      if (k && i % k == 0) print text > "/dev/stderr"; else print text
    }
  }'
}

centiseconds() { read -r up _ </proc/uptime; now=$((${up%.*} * 100 + 1${up#*.} - 100)); }

case ",$show," in *,args,*) echo "task [$task]"; for word in "$@"; do printf 'argument [%s]\n' "$word"; done ;; esac
case ",$show," in *,env,*) env | sort | sed 's/^/env /' ;; esac
case ",$show," in *,id,*) echo "id $(id -u):$(id -g) home [$HOME] cwd [$PWD]" ;; esac
case ",$show," in *,files,*) for name in $files; do echo "file [$name]"; done ;; esac
[ -z "$stdout" ] || echo "$stdout" | tr _ ' '
[ -z "$stderr" ] || echo "$stderr" | tr _ ' ' >&2
[ -z "$write" ] || printf '%s\n' "$@" >"$write" || exit 1

epoch=1
while [ "$epoch" -le "$epochs" ]; do
  loss=$(awk -v e="$epoch" 'BEGIN { printf "%.4f", 5 / e }')
  echo "Epoch $epoch/$epochs"
  printf ' 1/2 [=====>......] - ETA: 1s - loss: %s\r' "$loss"
  nap "$pause"
  echo "2/2 [============] - 1s 500ms/step - loss: $loss"
  printf 'Epoch %05d: saving model to /workspace/tao-experiments/%s/weights/%s_epoch_%03d.tlt\n' "$epoch" "$task" "$task" "$epoch"
  echo '*******************************'
  echo "car           AP    0.$((4 + epoch % 5))"
  echo "              mAP   0.$((4 + epoch % 5))"
  echo '*******************************'
  echo "Validation loss: $loss"
  epoch=$((epoch + 1))
done

if [ "$lines" -gt 0 ] && [ "$rate" -eq 0 ]; then
  print_lines 0 "$lines"
elif [ "$lines" -gt 0 ]; then
  # As many as are due by the clock, twenty times a second, so that a busy machine catches up.
  centiseconds; start=$now; done=0
  while [ "$done" -lt "$lines" ]; do
    centiseconds
    due=$(((now - start) * rate / 100 + 1))
    [ "$due" -le "$lines" ] || due=$lines
    [ "$due" -le "$done" ] || print_lines "$done" "$due"
    done=$due
    [ "$done" -eq "$lines" ] || usleep 50000
  done
fi

if [ -n "$memory" ]; then
  # In place of this shell, so that the memory is the container's own process.
  echo "taking memory"
  exec awk -v mib="$memory" 'BEGIN {
    block = sprintf("%1048576s", "")
    for (i = 0; !mib || i < mib; i++) kept[i] = block i
    print "memory taken"; fflush(); system("sleep 600")
  }'
fi
nap "$sleep"
[ -n "$status" ] || { [ "$exit" -eq 0 ] && status=PASS || status=FAIL; }
[ "$status" = none ] || echo "Execution status: $status"
exit "$exit"
