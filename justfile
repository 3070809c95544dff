# What Holdfast does, by verb. `./just VERB` works on a bare Debian; `just VERB` inside .venv or the dev shell.

set positional-arguments

python := env("HOLDFAST_VENV", justfile_directory() / ".venv") / "bin/python"
export PYTHONPATH := justfile_directory()

# list the verbs
default:
    @just --list --unsorted

# the whole job in the lab: install `cottage` over its tailnet, watched in Prefect's UI (--once: do not stay up)
demo *flags: _debian
    {{python}} -m lab.demo "$@"

# all tests: unit, ssh against a real sshd, end to end in two labs at once (arguments go to pytest, which then runs one)
test *args: _debian
    @[ $# -gt 0 ] || set -- --numprocesses=3 --no-loadscope-reorder; {{python}} -m pytest "$@"

# cause faults in real installs in the lab, phase by phase, with a table at the end (about an hour)
faults: _debian
    {{python}} -m tests.lab.faults

# install each firmware, boot loader and root in the lab, cut the power in each, break two boot loaders (about two hours)
matrix: _debian
    {{python}} -m tests.lab.matrix

# rehearse and install from other origins in the lab: busybox, LUKS, RAID, a jump host, a VLAN on a bond, IPv6 alone
origins: _debian
    {{python}} -m pytest -m lab tests/lab/origins

# install in the lab in rarer ways: in parts, the standard way, from an archive, built by the target (about an hour)
options: _debian
    {{python}} -m pytest -m options tests/lab

# measure uploads, installs beside nixos-anywhere's, and a slow link, in the lab; prints a table (about an hour)
bench *args: _debian
    {{python}} -m bench "$@"

# check layout, style, types, imports, shell scripts and Nix syntax; changes nothing
check: (_check "--check")

# the same, and formats what can be formatted
fmt: (_check "")

# build the kexec image with Tailscale to ./result
build-kexec:
    @command -v nix >/dev/null || { echo "build-kexec: there is no nix on this machine. Hint: install it, https://nixos.org/download says how." >&2; exit 1; }
    nix --extra-experimental-features "nix-command flakes" build .#kexec-tailscale
    @echo "the image is $(readlink -f result)"

# install HOST; KEXEC (an image) keeps it on its tailnet, TARGET (an address) alone does not (--until=PHASE: stop there)
install host target="" kexec="" *flags:
    @{{python}} -m deployments.start install "$@"

# the same for a machine in use: wipes it, once a person has approved the plan in the UI
reinstall host target="" kexec="" *flags:
    @{{python}} -m deployments.start reinstall "$@"

# start the installer on HOST, then return to its own system; formats no disk (--origin: first reboots that system once)
rehearse host target="" kexec="" *flags:
    @{{python}} -m deployments.start rehearse "$@"

# show what an install of HOST would do, disk by disk; changes nothing and needs no Prefect server
plan host target="" kexec="":
    @{{python}} -m deployments.plan "$@"

# copies of Tailscale states: list [HOST], or restore HOST [ARCHIVE] to a machine that has lost its own
vault *args:
    @{{python}} -m deployments.vault "$@"

# offer each host of the inventory to the Prefect server, as install/HOST and rehearse/HOST; has to keep running
serve:
    {{python}} -m deployments.serve

# the lab by hand: up, down, status, ssh
lab *args: _debian
    {{python}} -m lab "$@"

_check flag:
    ruff format {{flag}} --quiet .
    ruff check .
    mypy
    lint-imports
    shellcheck just .ci/run .ci/release-image lab/image/files/init lab/final/nixos-install lab/alpine/files/sbin/openrc lab/alpine/files/etc/init.d/* $(git ls-files '*.sh')
    @if command -v nix-instantiate >/dev/null; then git ls-files '*.nix' | xargs nix-instantiate --parse >/dev/null; else echo "no nix-instantiate here: the Nix files were not parsed (the tests do it)"; fi
    @if command -v nixfmt >/dev/null; then git ls-files '*.nix' | xargs nixfmt {{flag}}; else echo "no nixfmt here: the layout of the Nix files was not checked (nix fmt does it)"; fi

# the Debian packages that the lab and the SSH tests stand on
_debian:
    @lab/packages.sh
