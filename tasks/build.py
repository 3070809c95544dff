"""Builds all that the install needs, before the target is touched."""

from tasks.model.host import Host
from tasks.model.image import inspect_image
from tasks.model.plan import Plan, check_image
from tasks.model.results import Built
from tasks.nixcli import flake
from tasks.phase import lines, phase, say


@phase("build")
def build(host: Host, plan: Plan) -> Built:
    """Build the kexec image (unless it is a file), the disko script, the mount script and the closure.

    Raises:
        ConfigError: the flake lacks an attribute, does not build, or the image is not one.
        TargetRefused: the image is for another architecture, or needs more memory than the target has.

    """
    with lines() as output:
        image = inspect_image(flake.kexec_image(host, on_line=output.add))
        check_image(plan.origin, image, host)
        system = flake.build_system(host, on_line=output.add)
    say(f"built {system.toplevel} ({system.closure_bytes / 1e6:.0f} MB with its closure); image {image.path.name}")
    return Built(
        toplevel=system.toplevel,
        disko_script=system.disko_script,
        mount_script=system.mount_script,
        closure_bytes=system.closure_bytes,
        image=str(image.path),
        image_sha256=image.sha256,
        nix_version=system.nix_version,
    )
