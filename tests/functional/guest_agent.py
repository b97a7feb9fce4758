"""A guest agent for the tiny guest, which has no room for the real one."""

from __future__ import annotations

_PROGRAM = r"""
cat >/tmp/agent <<'END'
exec <>/dev/$(basename $(dirname $(grep -lx org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name)))
echo $$ >/tmp/agent.pid
while :; do
  while read -r line; do
    case $line in
      *guest-sync-delimited*) id=${line##*: }; printf '\377{"return": %s}\n' ${id%%[!0-9]*} >&0;;
      *freeze-freeze*) fsfreeze --freeze /mnt; echo "GUEST FRO"ZEN >/dev/ttyS0; sleep $1; echo '{"return": 1}' >&0;;
      *freeze-thaw*) fsfreeze --unfreeze /mnt; echo "GUEST THA"WED >/dev/ttyS0; echo '{"return": 1}' >&0;;
    esac
  done
  sleep 0.1 # nobody is at the other end
done
END
"""
"""Stands in for qemu-ga; it freezes a real file system, /mnt."""


def start_stand_in(answers_after: float = 0) -> str:
    """A command for the guest, over when there is one. It answers a freeze so many seconds after it has frozen."""
    return f"{_PROGRAM} setsid sh /tmp/agent {answers_after:g} & until [ -s /tmp/agent.pid ]; do sleep 0.1; done"
