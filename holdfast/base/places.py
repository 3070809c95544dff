"""The target's places: the paths and units that Python, the scripts (nix/scripts) and the Nix modules (nix) agree on.

They are on the lowest floor, since the plan and the inventory name some of them too. A test holds the scripts and the
Nix files to this list (tests/unit/test_places.py).
"""

from typing import Final

# Where the final system is mounted in the installer.
NEW_ROOT: Final = "/mnt"

# tailscaled's own, in every system.
STATE_DIR: Final = "/var/lib/tailscale"
TAILSCALED_STATE: Final = f"{STATE_DIR}/tailscaled.state"

# Holdfast's own on a disk: the image in the origin, the marks in the final system.
HOLDFAST_DIR: Final = "/var/lib/holdfast"
# In the origin: the proof that it comes back, and which run asked it to reboot for that.
ORIGIN_PROVED: Final = f"{HOLDFAST_DIR}/origin-proved.json"
ORIGIN_REBOOT: Final = f"{HOLDFAST_DIR}/origin-reboot.json"
MARK_ON_DISK: Final = f"{NEW_ROOT}{HOLDFAST_DIR}/partition.json"

# In the final system: its post_install has succeeded.
POST_INSTALLED: Final = f"{HOLDFAST_DIR}/post-installed"

# Holdfast's own in RAM: it ends with the boot.
HOLDFAST_RAM_DIR: Final = "/run/holdfast"
LOCK: Final = f"{HOLDFAST_RAM_DIR}/lock.json"
INSTALLER_MARK: Final = f"{HOLDFAST_RAM_DIR}/installer.json"
INSTALLER_SECRETS: Final = f"{HOLDFAST_RAM_DIR}/secrets"
MARK_IN_RAM: Final = f"{HOLDFAST_RAM_DIR}/partition.json"
STANDBY_IN_RAM: Final = f"{HOLDFAST_RAM_DIR}/standby"

# The image's timer that starts the origin again, and the unit that watches over the trial start of the final system.
DEAD_MAN_TIMER: Final = "holdfast-deadman.timer"
TRIAL_WATCH: Final = "holdfast-trial.service"
# Long work, as transient units; the run's id follows, or for BUILD_UNIT a digest of what is built.
BUILD_UNIT: Final = "holdfast-build-"
PARTITION_UNIT: Final = "holdfast-partition-"
INSTALL_UNIT: Final = "holdfast-install-"
BOOT_LOADER_UNIT: Final = "holdfast-boot-loader-"
POST_INSTALL_UNIT: Final = "holdfast-post-install-"
