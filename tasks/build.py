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
    with hinting(lambda: SAME_LOCK):
        made = flake.build_system(plan.system, host, folder, on_line=on_line)
    toplevel, mount_script = plan.system.toplevel.out, plan.system.mount_script
    with_image = f"image {image.path.name}" if image else "no image is needed"
    say(f"built {toplevel} ({made.closure_bytes / 1e6:.0f} MB with its closure); {with_image}")
    return Built(
        toplevel=toplevel,
        disko_script=plan.system.disko_script.out,
        mount_script=mount_script.out if mount_script else "",
        closure_bytes=made.closure_bytes,
        image=str(image.path) if image else "",
        image_sha256=image.sha256 if image else "",
        tailscale=plan.system.tailscale,
        nix_version=made.nix_version,
        takes_login=image is not None and image.takes_login,
    )
