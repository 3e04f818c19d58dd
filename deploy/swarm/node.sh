#!/usr/bin/env bash
# Prepares a further host of a swarm for deploy/swarm/workers.yaml, as root: the directories of worker and engine proxy, and the service
# image. The directory `images` of the first host must be there already.
#
#   deploy/swarm/node.sh [DIR]     DIR (default /var/lib/mayfly): the same path as on the first host
set -euo pipefail
service_uid=10001 engine_uid=10005   # as in workers.yaml
home=$(realpath -m "${1-/var/lib/mayfly}")
images=${IMAGES-$home/images}
[ -e "$images/services/service.tar" ] || { echo "There is no $images/services/service.tar: copy it from the first host." >&2; exit 1; }
install -d -m 755 "$home"
install -d -m 711 -o "$service_uid" -g "$service_uid" "$home/sandboxes"
install -d -m 2750 -o "$engine_uid" -g "$service_uid" "$home/engine"
docker load --quiet --input "$images/services/service.tar"
