#!/usr/bin/env bash
# A Slurm of one node on this machine, in a folder of its own: cluster.sh start FOLDER, or stop.
# Needs root and Debian's slurmctld, slurmd, slurm-client and munge. Prints the SLURM_CONF to use.
set -euo pipefail
action=$1
mkdir -p "$2"
here=$(cd "$2" && pwd)

if [ "$action" = stop ]; then
  for name in slurmd slurmctld munged; do
    if [ -s "$here/$name.pid" ]; then kill "$(cat "$here/$name.pid")" 2>/dev/null || true; fi
  done
  exit 0
fi

# Its own key, socket and daemon: a munge that is already there is left alone.
mkdir -p "$here/munge" "$here/state" "$here/spool"
dd if=/dev/urandom of="$here/munge/munge.key" bs=1024 count=1 status=none
chown -R munge:munge "$here/munge"
chmod 700 "$here/munge" && chmod 400 "$here/munge/munge.key"
touch "$here/munged.pid" && chown munge:munge "$here/munged.pid"
runuser -u munge -- munged --key-file="$here/munge/munge.key" --socket="$here/munge/socket" \
  --pid-file="$here/munge/munged.pid" --log-file="$here/munge/munged.log" \
  --seed-file="$here/munge/munged.seed" --force
cp "$here/munge/munged.pid" "$here/munged.pid"
chmod 711 "$here/munge"

host=$(hostname -s)
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
cat > "$here/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$here/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=30
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(free -m | awk '/Mem:/ {print int($2 * 0.9)}')
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$here/slurm.conf"
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 60); do
  if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then
    echo "$SLURM_CONF"
    exit 0
  fi
  sleep 0.5
done
echo "the node did not become idle: $(tail -n 3 "$here"/*.log)" >&2
exit 1
