"""The rehearsal, phase by phase: into the installer, and back to the origin."""

from prefect import flow

from holdfast.base.settings import settings
from holdfast.inventory.loading import chosen_host
from holdfast.plan.rehearsal import rehearsal_host
from tasks.at_origin import at_origin
from tasks.build import build
from tasks.go_back import go_back
from tasks.hardware_known import hardware_known
from tasks.hardware_seen import hardware_seen
from tasks.kexec import kexec
from tasks.preflight import preflight
from tasks.preserve import preserve
from tasks.prove_origin import prove_origin
from tasks.reconnect import reconnect
from tasks.run.flow import reported


@flow(name="rehearse", flow_run_name="rehearse {host}", validate_parameters=True)
@reported
def rehearse(host: str, target: str | None = None, image: str | None = None, origin: bool = False) -> None:
    """Show that a host of the inventory comes back from the installer, on its tailnet, as the same node.

    Nothing on its disks is changed, except that `/var/lib/holdfast` gets the image, and the proof of its return.

    Args:
        host: the host's name in the inventory.
        target: an address to use instead of the inventory's: a MagicDNS name or an IP address.
        image: a kexec image to use instead of the inventory's: a tarball, a folder with one, a flake's output, or a
            URL with `#sha256=HEX`.
        origin: first reboots the machine once from its own system, and goes on only if that comes back by itself.
            Nobody may help it at its console meanwhile (a passphrase, say): that would prove nothing.

    """
    chosen = rehearsal_host(chosen_host(settings().inventory, host, target=target, image=image))
    if chosen.hardware_report:
        hardware_known(chosen, rehearsal=True)
    plan = preflight(chosen, rehearsal=True)
    built = build(chosen, plan)
    at_origin(chosen, plan, built)
    preserve(chosen, plan, built)
    if origin:
        prove_origin(chosen, plan, built)
    started = kexec(chosen, plan, built)
    returned = reconnect(chosen, plan, built, started)
    if chosen.hardware_report:
        hardware_seen(chosen, plan, returned)
    go_back(chosen, plan, built, started, returned)
