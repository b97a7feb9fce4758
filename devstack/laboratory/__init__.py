"""Virtual compute hosts on one machine: Debian's own kernel in emulated machines, so that KVM, vhost-net and the Open
vSwitch datapath are the real ones wherever it runs. `devstack/lab` is its command; tests take `Laboratory`.

Everything lives in the namespaces that `sandbox/enter` makes, and ends with them.
"""

from compute_agent.cli.threads import forbid_eventlet

forbid_eventlet()  # here, because nothing may have imported oslo.messaging before
