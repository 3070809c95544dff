"""Machines with watchdogs, in folders: /sys/class/watchdog and /sys/module as the kernel shows them."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Watchdogs:
    """The watchdogs of the machine whose root is a folder.

    Attributes:
        core: the core's `stop_on_reboot`; None if the kernel does not have the parameter.
        module: whether the core is a module, and not built in.
        uses: how often each driver is in use; None if the driver is built in.
        told: whether the drivers tell the core which device they drive.

    """

    root: Path
    core: str | None = "-1"
    module: bool = True
    uses: dict[str, int | None] = field(default_factory=dict)
    told: bool = True

    def add(self, driver: str, **files: str) -> None:
        """Add a watchdog that nobody uses, with some of its files changed; an empty driver is no hardware."""
        kinds = self.root / "sys/class/watchdog"
        folder = kinds / f"watchdog{len(list(kinds.glob('*')))}"
        folder.mkdir(parents=True)
        values = {"identity": driver, "state": "inactive", "timeout": "30", "max_timeout": "0", "nowayout": "0"}
        for name, text in (values | files).items():
            (folder / name).write_text(text + "\n")
        if driver:
            device = self.root / f"sys/devices/{driver}"
            device.mkdir(parents=True, exist_ok=True)
            if self.told:
                (folder / "device").symlink_to(device)
            drives = self.root / f"sys/bus/pci/drivers/{driver}"
            drives.mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(drives)
            self._module(driver)
            (drives / "module").symlink_to(self.root / f"sys/module/{driver}")
        self._core()

    def _module(self, driver: str) -> None:
        module = self.root / f"sys/module/{driver}"
        module.mkdir(parents=True, exist_ok=True)
        uses = self.uses.get(driver, 0)
        if uses is not None:
            (module / "refcnt").write_text(f"{uses}\n")

    def _core(self) -> None:
        core = self.root / "sys/module/watchdog"
        (core / "parameters").mkdir(parents=True, exist_ok=True)
        if self.core is not None:
            (core / "parameters/stop_on_reboot").write_text(self.core + "\n")
        if self.module:
            (core / "refcnt").write_text("1\n")
            (core / "holders").mkdir(exist_ok=True)
            for module in (self.root / "sys/module").iterdir():
                if module.name != "watchdog" and not (core / "holders" / module.name).is_symlink():
                    (core / "holders" / module.name).symlink_to(module)
