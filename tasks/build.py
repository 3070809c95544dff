"""Builds everything that the install needs, before the target is touched."""

from holdfast.base.errors import hinting
from holdfast.inventory.host import Host
from holdfast.nixcli import flake
from holdfast.plan.fitness import check_image
from holdfast.plan.image import inspect_image
from holdfast.plan.plan import Plan
from holdfast.plan.results import Built
from holdfast.plan.stage import Stage
from holdfast.plan.way_in import check_way_in
from holdfast.target.planning import SAME_LOCK
from tasks.run.log import current, say
from tasks.run.phase import phase
from tasks.run.this_run import journal


@phase("build")
def build(host: Host, plan: Plan) -> Built:
    """Build the kexec image, disko script and closure, from the derivations of the plan.

    If the target builds its system, that is done later, in the installer (holdfast/target/building.py).
    No image is built if the inventory names a file, or if the run goes on from an installer of somebody else.

    Raises:
        ConfigError: the image is invalid, or no flake has it.
        NotTrusted: a downloaded image has another checksum.
        CommandFailed: something cannot be built or downloaded.
        TargetRefused: the image is for another architecture, or needs more memory than the target has,
            or would not let Holdfast in.

    """
    on_line, folder = current().line, journal().folder
    image = None
    if not plan.foreign:
        with hinting(lambda: SAME_LOCK if plan.image_lock else ""):
            image = inspect_image(flake.kexec_image(host, plan.image_lock, folder, on_line=on_line))
    if image and plan.stage is not Stage.FINAL:
        check_image(plan.origin, image, host)
    if image and plan.way_in and plan.stage is Stage.ORIGIN:
        check_way_in(plan.way_in, host, takes_login=image.takes_login)
    toplevel, mount_script = plan.system.toplevel.out, plan.system.mount_script
    with_image = f"image {image.path.name}" if image else "no image is needed"
    closure_bytes = 0
    if plan.builds_itself:
        say(f"an install builds {toplevel} on {host.name}, in the installer: {plan.builds_itself}; {with_image}")
    else:
        with hinting(lambda: SAME_LOCK):
            closure_bytes = flake.build_system(plan.system, host, folder, on_line=on_line)
        say(f"built {toplevel} ({closure_bytes / 1e6:.0f} MB with its closure); {with_image}")
    return Built(
        toplevel=toplevel,
        disko_script=plan.system.disko_script.out,
        mount_script=mount_script.out if mount_script else "",
        derivations=plan.system.parts if plan.builds_itself else (),
        closure_bytes=closure_bytes,
        image=str(image.path) if image else "",
        image_sha256=image.sha256 if image else "",
        tailscale=plan.system.tailscale,
        nix_version=flake.nix_version(),
        takes_login=image is not None and image.takes_login,
        keeps_standby=image is not None and image.keeps_standby,
    )
