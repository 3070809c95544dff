"""The final system: its trial, its boot loader, and the proof that it is the one that was built."""

import pytest

from holdfast.base.errors import CommandFailed, DeadlinePassed, NeverCame, NotTrusted, UnexpectedState
from holdfast.inventory.host import Host
from holdfast.plan.results import Installed, Rebooted, Tried, Verified
from tasks import trial as trial_file
from tasks import verify as verify_file
from tests.log import Remembered
from tests.unit.cases import built, facts, host, plan, status
from tests.unit.programs import Command, Done
from tests.unit.server import body
from tests.unit.target import RUN, TOPLEVEL, FakeMachine

pytestmark = pytest.mark.usefixtures("desk", "server")
LAN = "192.168.1.100"
BUILT = built(toplevel=TOPLEVEL)
ORIGIN = facts("debian-12")
OWNED = {"path": "/etc/token", "command": ["echo", "x"], "owner": "app:app"}
CONFIRMED = ["watch stopped", "/etc/token put", "boot loader installed"]
CONFIRMED.append("order standby, new system, disk, network, once new system")
LEFT = ["locked", "new system loaded", "told to kexec"]


def verify(of: Host) -> Verified:
    rebooted = Rebooted(rebooted_at=1.0, boot_id="installer's")
    done = body(verify_file.verify)(of, plan(ORIGIN, of, run_id=RUN), BUILT, rebooted)
    assert isinstance(done, Verified)
    return done


class TestVerify:
    @pytest.fixture(autouse=True)
    def final(self, machine: FakeMachine) -> None:
        machine.is_in("final")

    def test_deadline_says_where_the_system_runs(self, machine: FakeMachine) -> None:
        machine.ways = {LAN: None}
        with pytest.raises(DeadlinePassed) as info:
            verify(host(local=LAN))
        assert f"The final system runs and is reachable at {LAN}, not at cottage." in info.value.message
        assert info.value.message.endswith("Nothing more happens without you: the system stays as it is.")
        assert f"Log in at {LAN}" in info.value.hint

    def test_another_system_there_is_not_the_new_one(self, machine: FakeMachine) -> None:
        machine.ways = {LAN: None}
        machine.on("readlink", lambda _: "/nix/store/other\n")
        with pytest.raises(DeadlinePassed) as info:
            verify(host(local=LAN))
        assert "reachable at" not in info.value.message

    def test_node_is_proved_over_the_tailnet_only(self, machine: FakeMachine) -> None:
        machine.ways = {LAN: None}
        with pytest.raises(DeadlinePassed, match=f"the final system runs and answers at {LAN}, not over the tailnet"):
            verify(host(local=LAN, go_on_over_local=True))
        machine.ways = {"cottage": None}
        assert not verify(host(local=LAN, go_on_over_local=True)).over_local

    def test_verify_does_not_take_the_trial_for_the_end(self, machine: FakeMachine) -> None:
        machine.watch_s = 2000.0
        machine.is_in("trial")
        with pytest.raises(DeadlinePassed, match="its trial still runs"):
            verify(host())


def trial(*, boot_loader: bool = False) -> Tried:
    of = host(files=[OWNED])
    done = body(trial_file.trial)(of, plan(ORIGIN, of, run_id=RUN), BUILT, Installed(boot_loader=boot_loader))
    assert isinstance(done, Tried)
    return done


class TestTrial:
    @pytest.fixture(autouse=True)
    def installed(self, machine: FakeMachine) -> None:
        """The installer when the system is installed, and has no boot loader yet."""
        machine.is_in("installer")
        machine.mounted = machine.standby = True
        machine.disk = "installer"
        assert machine.efi
        machine.efi.order, machine.efi.once = ["standby", "disk", "network"], "standby"

    def test_system_that_comes_up_gets_its_boot_loader(self, machine: FakeMachine) -> None:
        tried = trial()
        assert tried.boot_id == machine.boot_id
        assert tried.away_s is not None
        assert machine.story == [*LEFT, "trial boots", *CONFIRMED]

    def test_system_that_does_not_come_up_is_left_in_the_installer(self, machine: FakeMachine) -> None:
        machine.instead["trial"] = "installer"
        with pytest.raises(UnexpectedState, match=r"did not come up .* in the installer again"):
            trial()
        assert machine.story == [*LEFT, "installer boots"]

    def test_system_that_nobody_reaches_goes_back_to_the_installer(self, machine: FakeMachine) -> None:
        machine.shows("trial", tailscale_status=status("nixos", state="Starting"))
        with pytest.raises(UnexpectedState, match=r"did not come up .* in the installer again"):
            trial()
        assert machine.story == [*LEFT, "trial boots", "installer boots"]

    def test_silence_says_what_happens_by_itself(self, machine: FakeMachine) -> None:
        machine.instead["trial"] = ""
        with pytest.raises(NeverCame, match=r"no answer.*a power cycle starts the installer from the disk") as info:
            trial()
        assert info.value.hint.endswith("A retry of the run waits again.")
        assert machine.story == [*LEFT, "nothing boots"]

    def test_another_node_is_not_confirmed(self, machine: FakeMachine) -> None:
        machine.shows("trial", tailscale_status=status("nixos", PublicKey="nodekey:" + "00ff" * 16))
        with pytest.raises(NotTrusted, match="another node"):
            trial()
        assert machine.story == [*LEFT, "trial boots"]

    def test_node_without_tailscale_is_not_confirmed(self, machine: FakeMachine) -> None:
        machine.shows("trial", tailscale_status=status("nixos", state="Starting"))
        machine.on("load-final.sh", lambda _: setattr(machine, "watch_s", 1e9))  # a systemd that knows no watch
        with pytest.raises(NeverCame, match="its tailscaled is not up yet"):
            trial()

    def test_retry_goes_on_with_a_system_on_its_trial(self, machine: FakeMachine) -> None:
        machine.is_in("trial")
        tried = trial()
        assert (tried.skipped, tried.away_s) == ("", None)
        assert machine.story == ["locked", *CONFIRMED]

    def test_system_that_booted_by_itself_has_no_trial(self, machine: FakeMachine) -> None:
        machine.is_in("final")
        assert "runs the installed system" in trial().skipped
        assert machine.story == []

    def test_without_a_standby_there_is_none(self, machine: FakeMachine) -> None:
        machine.on("standby.sh", lambda _: "none: the root is encrypted\n")
        assert trial(boot_loader=True).skipped == "there is no trial: the root is encrypted"
        with pytest.raises(UnexpectedState, match=r"no boot loader yet.*the root is encrypted"):
            trial()
        assert machine.story == ["locked"]

    def test_origin_is_left_alone(self, machine: FakeMachine) -> None:
        machine.is_in("origin")
        with pytest.raises(UnexpectedState, match="its own system"):
            trial()
        assert machine.story == []

    def test_full_boot_partition_loses_the_standby_and_not_the_boot_loader(
        self, machine: FakeMachine, log: Remembered
    ) -> None:
        full = "cp: error writing '/boot/initrd.new': No space left on device\n"

        def install(_: Command) -> Done:
            machine.tell("boot loader installed" if not machine.standby else "boot loader: no space")
            return Done(stderr=full, status=1) if machine.standby else Done()

        machine.on("switch-to-configuration", install)
        trial()
        assert machine.story[-4:] == [
            "boot loader: no space",
            "order disk, network",
            "standby removed",
            "boot loader installed",
        ]
        assert machine.commands[-1] == Command("standby.sh", ["remove", "/"])
        assert "the boot partition is full" in log.warned[0]
        assert log.warned[1:] == ["nothing leads back from the first boot: there is no standby below /"]

    def test_boot_loader_that_fails_keeps_the_standby(self, machine: FakeMachine) -> None:
        machine.on("switch-to-configuration", lambda _: Done(stderr="grub-install: error\n", status=1))
        with pytest.raises(CommandFailed, match="grub-install"):
            trial()
        assert machine.story == [*LEFT, "trial boots", *CONFIRMED[:2]]
        assert machine.standby
