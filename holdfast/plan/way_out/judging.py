"""Judges the way out: the rows of the plan's section of that name, and the refusal of a network that would be gone."""

from collections.abc import Iterator
from typing import Final

from holdfast.base.errors import TargetRefused
from holdfast.facts.links import Link, NetworkFacts
from holdfast.facts.network import Network
from holdfast.inventory.host import Host, Way
from holdfast.plan.way_out.known import Known, known_of
from holdfast.plan.way_out.made import Made, made_of
from holdfast.plan.way_out.names import names_row
from holdfast.plan.way_out.row import Verdict, WayOutRow
from holdfast.plan.way_out.stock import doubted_in_stock, lost_in_stock
from holdfast.plan.way_out.words import as_it_is, as_made, hint_of, why_not

NO_WAY_OUT: Final = "no-way-out"
_MOST_ROWS: Final = 16
# These run over another way out, which stays when they are gone.
_OVER_OTHERS: Final = ("tun", "wireguard", "none", "sit", "gre", "ipip", "ip6tnl", "vti", "xfrm", "vxlan")


def judge_way_out(network: NetworkFacts, plain: Network, host: Host) -> tuple[WayOutRow, ...]:
    """Return what the installer has of the network, what is lost first.

    Args:
        network: what way-back.sh told.
        plain: what facts.sh told.
        host: the host.

    """
    known = known_of(network, plain)
    judged = _Judged(known, host)
    rows = [*_link_rows(judged), *_other_rows(judged, network), names_row(network, plain, judged.made)]
    worst_first = (Verdict.LOST, Verdict.UNPROVED, Verdict.FINE)
    rows.sort(key=lambda row: worst_first.index(row.verdict))
    if len(rows) > _MOST_ROWS:
        # The worst are first.
        more = WayOutRow(
            subject="more",
            now=f"{len(rows) - _MOST_ROWS} more links",
            then="not shown",
            verdict=rows[_MOST_ROWS].verdict,
        )
        rows = [*rows[:_MOST_ROWS], more]
    return tuple(rows)


def check_way_out(rows: tuple[WayOutRow, ...], host: Host) -> None:
    """Refuse a machine whose installer would have no network, in both ways.

    Raises:
        TargetRefused: the only way out, or the one that is used, is lost, and the inventory does not allow that.

    """
    lost = [row for row in rows if row.verdict is Verdict.LOST]
    if not lost or NO_WAY_OUT in host.allow:
        return
    why = "; ".join(f"{row.subject} ({row.now}): {row.then}" for row in lost)
    hints = " ".join(dict.fromkeys(row.hint for row in lost if row.hint))
    allowing = f'If the image sets its network up by itself, add "{NO_WAY_OUT}" to allow in the inventory.'
    raise TargetRefused(
        f"the installer would not have the way out of {host.name}: {why}.", hint=f"{hints} {allowing}".lstrip()
    )


def warned_of(rows: tuple[WayOutRow, ...]) -> tuple[str, ...]:
    """Return the rows that a person should know of, one line each."""
    return tuple(row.in_one_line() for row in rows if row.verdict is not Verdict.FINE)


class _Judged:
    """The links, what is made of them, and those that are a way out."""

    def __init__(self, known: Known, host: Host) -> None:
        self.known = known
        self.host = host
        self.made = made_of(known)
        self.links = {link.name: link for link in known.links}
        self.defaults = tuple(dict.fromkeys(route.dev for route in known.default_routes()))

    def lost(self, name: str) -> str:
        """Return why the installer does not have a link, or not its way out; empty if it has."""
        link = self.links.get(name) or Link(name=name, kind="unknown")
        made = self.made.get(name)
        if made is None:
            return why_not(link, self.known)
        return lost_in_stock(link, made, self.known) if self.host.way is Way.STANDARD else ""

    def refused(self) -> tuple[str, ...]:
        """Return the links whose loss would leave the machine without a way out."""
        out = self.defaults or self.known.leaves_by
        if out and all(self.lost(name) for name in out):
            return out
        # What leaves by a tunnel now leaves by the link below it in the installer.
        used = [name for name in self.known.leaves_by if not self._is_over_another(name)]
        refused = used if used and all(self.lost(name) for name in used) else []
        operator = self.known.operator_by
        # In the other way the operator comes over the tailnet, not over a tunnel that is gone.
        needed = self.host.way is Way.STANDARD or not self._is_over_another(operator)
        if operator and needed and self.lost(operator):
            refused = [*refused, operator]
        return tuple(dict.fromkeys(refused))

    def _is_over_another(self, name: str) -> bool:
        link = self.links.get(name)
        return link is not None and link.kind in _OVER_OTHERS

    def ways(self) -> Iterator[Link]:
        """Yield the links with a row of their own: those that lead out, and those that are made with an address."""
        refused = self.refused()
        for link in (*self.links.values(), *(Link(name=name, kind="unknown") for name in refused)):
            if link.name in self.links and link is not self.links[link.name]:
                continue
            routes = [route for route in self.known.routes if route.dev == link.name]
            leads = any(route.gateway or route.dst == "default" for route in routes) or link.name in refused
            has = any(not each.near for each in link.addresses)
            if leads or (has and link.name in self.made):
                yield link


def _link_rows(judged: _Judged) -> Iterator[WayOutRow]:
    known, refused = judged.known, judged.refused()
    shown = [link.name for link in judged.ways()]
    for link in judged.ways():
        made, lost = judged.made.get(link.name), judged.lost(link.name)
        leads = link.name in refused or link.name in judged.defaults
        now = as_it_is(link, known)
        if lost or made is None:
            yield WayOutRow(
                subject=link.name,
                now=now,
                then=f"lost: {lost}",
                hint=hint_of(link, known, standard=made is not None) if leads else "",
                verdict=Verdict.LOST if link.name in refused else Verdict.UNPROVED,
            )
            continue
        by_stock = doubted_in_stock(link) if judged.host.way is Way.STANDARD else ""
        doubt = by_stock or _doubt(link, made, known)
        yield WayOutRow(
            subject=link.name,
            now=now,
            then=doubt if by_stock else "; ".join(part for part in (as_made(made, known), doubt) if part),
            verdict=Verdict.UNPROVED if doubt else Verdict.FINE,
        )
    left_out = [
        link.name
        for link in known.links
        if link.name not in shown and link.name not in judged.made and any(not each.near for each in link.addresses)
    ]
    if left_out:
        more = f" and {len(left_out) - 6} more" if len(left_out) > 6 else ""
        yield WayOutRow(
            subject="other links",
            now=f"{', '.join(left_out[:6])}{more}",
            then="left out; no route that leads on goes over them",
            verdict=Verdict.FINE,
        )


def _doubt(link: Link, made: Made, known: Known) -> str:
    """Return why it is not sure that the installer has a link; empty if nothing speaks against it."""
    card = known.cards.get(link.name)
    if known.is_tether(link.name):
        return "it looks like a telephone on USB, which has to share its network again"
    if card and card.foreign:
        return f"its driver {card.driver} is not the kernel's own: the image needs it, or one of the kernel's"
    if made.given_to:
        return f"no {link.kind} is made, and what it did beyond that is gone"
    if not known.exact and link.kind != "card":
        return "what it is made of is not known: ip here has no JSON"
    return ""


def _other_rows(judged: _Judged, network: NetworkFacts) -> Iterator[WayOutRow]:
    if network.tables:
        yield WayOutRow(
            subject="rules",
            now=f"the rules look up other tables: {', '.join(network.tables[:4])}",
            then="routes of the main table only",
            hint="See `ip rule` there.",
            verdict=Verdict.UNPROVED,
        )
    if not judged.defaults and not judged.known.leaves_by:
        yield WayOutRow(
            subject="default route",
            now="none that is known",
            then="none, unless DHCP or an advertisement gives one",
            verdict=Verdict.UNPROVED,
        )
    elif not judged.defaults and judged.known.exact:
        yield from _only_in_other_tables(judged)


def _only_in_other_tables(judged: _Judged) -> Iterator[WayOutRow]:
    leased = any(made.leased for made in judged.made.values())
    yield WayOutRow(
        subject="default route",
        now=f"none in the main table; packets leave by {', '.join(judged.known.leaves_by)}",
        then="none, unless DHCP or an advertisement gives one",
        hint="Put a default route in the main table.",
        verdict=Verdict.UNPROVED if leased else Verdict.LOST,
    )
