"""Builds everything that the install needs, before the target is touched."""

from holdfast.inventory.host import Host
from holdfast.nixcli import flake
from holdfast.plan.configuration import check_configuration
from holdfast.plan.fitness import check_image
from holdfast.plan.image import inspect_image
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from tasks.run.log import current, say, warn
from tasks.run.phase import phase


@phase("build")
def build(host: Host, plan: Plan) -> Built:
    """Check that the machine will be reachable; build the kexec image (unless it is a file), disko script and closure.

    Raises:
        ConfigError: the configuration would make the machine unreachable (holdfast/plan/configuration.py), the flake
            lacks an attribute, or the image is invalid.
        NotTrusted: a downloaded image has another checksum.
        CommandFailed: something cannot be evaluated, built or downloaded.
        TargetRefused: the image is for another architecture, or needs more memory than the target has.

    """
    on_line = current().line
    configuration = flake.describe(host, on_line=on_line)
    for allowed in check_configuration(configuration, host, plan):
        warn(allowed)
    image = inspect_image(flake.kexec_image(host, on_line=on_line))
    check_image(plan.origin, image, host)
    system = flake.build_system(host, on_line=on_line)
    say(f"built {system.toplevel} ({system.closure_bytes / 1e6:.0f} MB with its closure); image {image.path.name}")
    return Built(
        toplevel=system.toplevel,
        disko_script=system.disko_script,
        mount_script=system.mount_script,
        closure_bytes=system.closure_bytes,
        image=str(image.path),
        image_sha256=image.sha256,
        tailscale=configuration.tailscale,
        nix_version=system.nix_version,
    )
