#!/bin/sh
# The program of a task, as in NVIDIA's images: `ssd train -e … -r … -k …`. Its name is the task; the words go on untouched.
# -P: a torch.py or json.py in the mounted folder must not be imported in place of the real one.
exec python3 -P -u -m taomagic.engine "${0##*/}" "$@"
