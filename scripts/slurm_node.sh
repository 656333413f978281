#!/usr/bin/env bash
# A Slurm cluster of this one machine, without systemd, to try and test sweeps on:
#   scripts/slurm_node.sh install        Slurm, munge and MariaDB from Debian's packages, as root
#   scripts/slurm_node.sh up DIR         start it; its state and logs lie in DIR
#   scripts/slurm_node.sh node DIR       start the node's daemon again, after it was killed
#   scripts/slurm_node.sh down DIR       stop what `up` started
# Accounting is on, for without it nobody knows how a job ended. SLURM_CPUS=N lets the node pretend
# to have N cores. There are two partitions: jobs in `high` preempt those in `low`, which have 20
# seconds to save and go back into the queue.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin  # where the daemons are

command=${1:-}
directory=${2:-}
if [[ $command != install && ( -z $directory || ! $command =~ ^(up|node|down)$ ) ]]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
[[ $EUID == 0 ]] || { echo "$0: only root may do that." >&2; exit 1; }

install_packages() {
  # Debian's packages start their daemons unless this says no; there may be no systemd to do it.
  policy=/usr/sbin/policy-rc.d
  [[ -e $policy ]] || {
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    trap "rm -f $policy" EXIT
  }
  DEBIAN_FRONTEND=noninteractive apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    slurmctld slurmd slurm-client slurmdbd munge mariadb-server > /dev/null
}

# Runs a command until it succeeds, for at most a number of seconds.
wait_for() {
  local seconds=$1; shift
  for ((i = 0; i < 10 * seconds; i++)); do
    "$@" > /dev/null 2>&1 && return
    sleep 0.1
  done
  echo "$0: gave up after $seconds s waiting for: $*" >&2
  return 1
}

write_configuration() {
  local host memory mark='# Made by slurm_node.sh of stn_jax.'
  if [[ -e /etc/slurm/slurm.conf ]] && ! grep -q "^$mark" /etc/slurm/slurm.conf; then
    echo "$0: this machine has another Slurm: /etc/slurm/slurm.conf is not overwritten." >&2
    exit 1
  fi
  host=$(hostname -s)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  mkdir -p /etc/slurm
  cat > /etc/slurm/slurmdbd.conf <<END
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
LogFile=$directory/log/slurmdbd
PidFile=$directory/slurmdbd.pid
END
  chmod 600 /etc/slurm/slurmdbd.conf  # or slurmdbd does not start
  # Jobs start at once, and a requeued one as soon as its old processes are gone. The node counts as
  # dead after ten seconds without a word.
  cat > /etc/slurm/slurm.conf <<END
$mark
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
KillWait=20
SchedulerParameters=preempt_send_user_signal,batch_sched_delay=0,bf_interval=2,sched_min_interval=200000
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/slurmd.pid
SlurmdSpoolDir=$directory/spool
StateSaveLocation=$directory/state
SlurmctldLogFile=$directory/log/slurmctld
SlurmdLogFile=$directory/log/slurmd
NodeName=$host NodeAddr=127.0.0.1 CPUs=${SLURM_CPUS:-$(nproc)} RealMemory=$memory
PartitionName=low Nodes=$host Default=YES PriorityTier=1 GraceTime=20
PartitionName=high Nodes=$host PriorityTier=2
END
}

start_database() {
  local socket=/run/mysqld/mysqld.sock
  mkdir -p /run/mysqld "$directory/db"
  chown -R mysql: /run/mysqld "$directory/db"
  [[ -d $directory/db/mysql ]] || mariadb-install-db --no-defaults --user=mysql \
    --datadir="$directory/db" --auth-root-authentication-method=socket > /dev/null 2>&1
  mariadbd --no-defaults --user=mysql --datadir="$directory/db" --socket=$socket --skip-networking \
    --pid-file="$directory/db/pid" --innodb-buffer-pool-size=64M \
    --innodb-lock-wait-timeout=900 > "$directory/log/mariadb" 2>&1 < /dev/null &
  wait_for 30 mariadb -S $socket -e 'select 1'
}

is_idle() { sinfo --noheader --format=%T | grep -q idle; }

start() {
  mkdir -p "$directory"/{spool,state,log} /run/munge
  chmod 755 "$directory"
  chown -R munge: /run/munge /etc/munge
  pgrep -x munged > /dev/null || runuser -u munge -- /usr/sbin/munged
  write_configuration
  start_database
  slurmdbd
  wait_for 30 sacctmgr --noheader show cluster
  sacctmgr --immediate add cluster one > /dev/null 2>&1 || true  # it may be there
  slurmctld
  slurmd
  wait_for 30 is_idle
  sinfo
}

stop() {
  scancel --me 2> /dev/null && sleep 1 || true
  for name in slurmd slurmctld slurmdbd; do
    [[ ! -e $directory/$name.pid ]] || kill "$(< "$directory/$name.pid")" 2> /dev/null || true
  done
  sleep 1
  [[ ! -e $directory/db/pid ]] || kill "$(< "$directory/db/pid")" 2> /dev/null || true
}

case $command in
  install) install_packages ;;
  up) start ;;
  node) slurmd; wait_for 30 is_idle ;;
  down) stop ;;
esac
