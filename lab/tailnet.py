"""The lab's tailnet: headscale, a relay and the operator's Tailscale, all on loopback in the lab's namespace."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import qemu, toolchain

CONTROL_PORT = 8080
RELAY_PORT = 8443
STUN_PORT = 3478
DOMAIN = "tailnet.internal"

QUIET = {"TS_NO_LOGS_NO_SUPPORT": "true", "TS_DISABLE_PORTMAPPER": "true"}
"""The environment of every tailscaled of the lab: it uploads no logs and looks for no router."""

HEADSCALE_CONFIG = """\
server_url: http://127.0.0.1:{control}
listen_addr: 127.0.0.1:{control}
metrics_listen_addr: ""
grpc_listen_addr: 127.0.0.1:50443
grpc_allow_insecure: false
unix_socket: {sockets}/headscale.sock
unix_socket_permission: "0700"
noise:
  private_key_path: {state}/noise.key
prefixes:
  v4: 100.64.0.0/10
  v6: fd7a:115c:a1e0::/48
  allocation: sequential
derp:
  server:
    enabled: false
  urls: []
  paths: [{state}/derp.yaml]
  auto_update_enabled: false
database:
  type: sqlite
  sqlite:
    path: {state}/db.sqlite
    write_ahead_log: false
dns:
  magic_dns: true
  base_domain: {domain}
  override_local_dns: false
  nameservers:
    global: []
log:
  level: info
disable_check_updates: true
logtail:
  enabled: false
"""


@dataclass(frozen=True, slots=True)
class Tailnet:
    """One tailnet: the place of its state, and the argv of its programs.

    Attributes:
        state: the folder of headscale's database and keys and of the operator's state; each lab has a copy.
        sockets: a folder with a short path: the path of a unix socket has at most 107 characters.

    """

    state: Path
    sockets: Path

    def configure(self) -> None:
        """Write headscale's configuration and relay map; a state that exists is kept."""
        self.state.mkdir(parents=True, exist_ok=True)
        config = HEADSCALE_CONFIG.format(control=CONTROL_PORT, sockets=self.sockets, state=self.state, domain=DOMAIN)
        (self.state / "headscale.yaml").write_text(config)
        # One relay with two addresses: the operator's loopback, and the same loopback as a guest sees it.
        nodes = [
            {
                "name": name,
                "regionid": 900,
                "hostname": address,
                "ipv4": address,
                "derpport": RELAY_PORT,
                "stunport": STUN_PORT,
                "insecurefortests": True,
            }
            for name, address in (("900a", "127.0.0.1"), ("900b", qemu.HOST_ADDRESS))
        ]
        region = {"regionid": 900, "regioncode": "lab", "regionname": "Lab", "nodes": nodes}
        # JSON is YAML, but its keys are always texts, and headscale needs a number here.
        (self.state / "derp.yaml").write_text(f"regions:\n  900: {json.dumps(region)}\n")

    def relay_command(self) -> list[str]:
        """Return the argv of the relay, with STUN. Clients insist on TLS, so it makes its own certificate."""
        # fmt: off
        return [
            str(toolchain.tailscale_tools() / "derper"), "-a", f":{RELAY_PORT}", "-http-port", "-1",
            "-hostname", "127.0.0.1", "-certmode", "manual", "-certdir", str(self.state / "relay"),
            "-c", str(self.state / "relay.json"), "-stun-port", str(STUN_PORT),
        ]
        # fmt: on

    def headscale_command(self, *arguments: str) -> list[str]:
        """Return the argv of headscale: `serve`, or one of its subcommands."""
        return [str(toolchain.headscale()), "--config", str(self.state / "headscale.yaml"), *arguments]

    def headscale(self, *arguments: str) -> str:
        """Run a headscale subcommand against the running server, and return what it prints."""
        command = self.headscale_command(*arguments)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=30).stdout

    def operator_daemon_command(self) -> list[str]:
        """Return the argv of the operator's tailscaled; its network is in userspace: no route leads to the target."""
        # fmt: off
        return [
            str(toolchain.tailscale_tools() / "tailscaled"), "--tun=userspace-networking", "--no-logs-no-support",
            f"--statedir={self.state / 'operator'}", f"--socket={self.sockets / 'tailscaled.sock'}", "--port=0",
        ]
        # fmt: on

    def operator_command(self, *arguments: str) -> list[str]:
        """Return the argv of the operator's `tailscale`; it works from any network namespace."""
        program = toolchain.tailscale_tools() / "tailscale"
        return [str(program), f"--socket={self.sockets / 'tailscaled.sock'}", *arguments]

    def new_auth_key(self) -> str:
        """Make a user, and a key that lets machines join for the next hour."""
        user = json.loads(self.headscale("users", "create", "lab", "--output", "json"))
        made = self.headscale(
            "preauthkeys", "create", "--user", str(user["id"]), "--reusable", "--expiration", "1h", "--output", "json"
        )
        key: str = json.loads(made)["key"]
        return key
