"""The Prefect server as a short command line asks it: over its HTTP API, without `import prefect`.

Every error is one line with a hint. A server that is busy is asked again.
"""

import ssl
from collections.abc import Generator
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote
from uuid import uuid4

import httpx

from deployments.prefect_settings import PrefectSettings, is_address, prefect_settings, without_login
from holdfast.base import clock
from holdfast.base.errors import ConfigError, HoldfastError, Unreachable
from holdfast.base.text import printable

ANSWER_S: Final = 10.0
# A person waits for the answer. SQLite refuses now and then while it is busy.
PAUSES_S: Final = (0.5, 1.5, 4.0)
_BUSY: Final = (408, 429, 502, 503, 504)


class NotThere(HoldfastError):
    """The server knows no such thing: the user corrects its name."""


class Server:
    """A client of Prefect's API; a context manager.

    Args:
        settings: where the server is; by default read from this machine's settings.

    Attributes:
        answered_at: the time of the last answer by the server's own clock, in whole seconds; None if it does not say.

    """

    def __init__(self, settings: PrefectSettings | None = None) -> None:
        self._settings = settings or prefect_settings()
        self._client: httpx.Client | None = None
        self._forgery: dict[str, str] = {}
        self.answered_at: datetime | None = None

    def __enter__(self) -> Self:
        told = self._settings
        if not is_address(told.url):
            raise ConfigError(
                f"PREFECT_API_URL is no address: {told.shown}.", hint="It looks like http://127.0.0.1:4200/api."
            )
        try:
            self._client = httpx.Client(
                base_url=told.url,
                headers=dict(told.headers),
                auth=_login(told),
                verify=_trust(told),
                timeout=ANSWER_S,
                follow_redirects=True,
            )
        except (
            ImportError,
            ValueError,
            OSError,
            httpx.InvalidURL,
        ) as error:  # a proxy that httpx cannot use; a file of certificates
            raise ConfigError(
                f"the Prefect server at {told.shown} cannot be asked: {printable(str(error))[:200]}.",
                hint="Look at PREFECT_API_URL, at the proxy's variables (HTTPS_PROXY, ALL_PROXY, NO_PROXY), and at"
                " PREFECT_API_SSL_CERT_FILE.",
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def settings(self) -> PrefectSettings:
        """Where the server is."""
        return self._settings

    def run_url(self, run_id: str) -> str:
        """Return the address of a run in the UI."""
        return f"{without_login(self._settings.ui)}/runs/flow-run/{run_id}"

    def deployment(self, name: str) -> dict[str, Any]:
        """Return a deployment by its name, as `install/cottage`.

        Raises:
            NotThere: there is none of that name.

        """
        return self._object("GET", f"/deployments/name/{quote(name)}")

    def create_run(self, deployment_id: str, parameters: dict[str, object], key: str) -> dict[str, Any]:
        """Create a run that is due now.

        Args:
            deployment_id: of its deployment.
            parameters: what differs from the deployment's own.
            key: the same key again creates no second run.

        """
        told = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": key}
        return self._object("POST", f"/deployments/{quote(deployment_id)}/create_flow_run", told)

    def run(self, run_id: str) -> dict[str, Any]:
        """Return a run.

        Raises:
            NotThere: it was deleted.

        """
        return self._object("GET", f"/flow_runs/{quote(run_id)}")

    def run_by_key(self, key: str) -> dict[str, Any] | None:
        """Return the run that was created with this key, if there is one."""
        found = self._list("/flow_runs/filter", {"flow_runs": {"idempotency_key": {"any_": [key]}}, "limit": 1})
        return found[0] if found else None

    def cancel(self, run_id: str) -> None:
        """Press Cancel."""
        told = {"state": {"type": "CANCELLING", "name": "Cancelling", "message": "Cancelled with Ctrl-C."}}
        self._object("POST", f"/flow_runs/{quote(run_id)}/set_state", told)

    def logs(self, run_id: str, since: str, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return a page of a run's log, the oldest first, from a time on (ISO 8601; empty for all)."""
        logs: dict[str, object] = {"flow_run_id": {"any_": [run_id]}}
        if since:
            logs["timestamp"] = {"after_": since}
        told = {"logs": logs, "sort": "TIMESTAMP_ASC", "offset": offset, "limit": limit}
        return self._list("/logs/filter", told)

    def task_runs(self, run_id: str) -> list[dict[str, Any]]:
        """Return the tasks of a run, at most 200."""
        return self._list("/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}, "limit": 200})

    def _object(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._ask(method, path, body)
        if not isinstance(answer, dict):
            raise self._no_prefect()
        return answer

    def _list(self, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self._ask("POST", path, body)
        if not isinstance(answer, list) or not all(isinstance(each, dict) for each in answer):
            raise self._no_prefect()
        return answer

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> object:
        """Ask, and ask again while the server is busy. Whatever is asked here may be repeated."""
        answer = self._send(method, path, body)
        if answer.status_code == 403 and method == "POST" and not self._forgery and self._take_token():
            answer = self._send(method, path, body)
        if answer.is_error:
            raise self._refused(answer)
        try:
            return answer.json()
        except ValueError:
            raise self._no_prefect() from None

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        assert self._client is not None
        for pause_s in (*PAUSES_S, None):
            try:
                answer = self._client.request(method, path, json=body, headers=self._forgery)
            except (httpx.ConnectError, httpx.ProxyError) as error:
                raise self._away(error) from None
            except httpx.HTTPError as error:
                if pause_s is None or isinstance(error, httpx.TimeoutException):
                    raise self._away(error) from None
            else:
                if pause_s is None or answer.status_code not in _BUSY:
                    self.answered_at = _date(answer)
                    return answer
            clock.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    def _take_token(self) -> bool:
        """Take a token from a server that wants one against forged requests. Return whether it gave one."""
        client = str(uuid4())
        answer = self._send("GET", f"/csrf-token?client={client}", None)
        try:
            token = answer.json().get("token") if answer.is_success else None
        except (ValueError, AttributeError):
            return False
        if token:
            self._forgery = {"Prefect-Csrf-Token": str(token), "Prefect-Csrf-Client": client}
        return bool(token)

    def _away(self, error: Exception) -> HoldfastError:
        told = self._settings
        what = printable(str(error) or type(error).__name__)[:200]
        if "CERTIFICATE_VERIFY_FAILED" in what:
            return ConfigError(
                f"the certificate of the Prefect server at {told.shown} is not trusted: {what}.",
                hint="Name a file with its authority's certificate in PREFECT_API_SSL_CERT_FILE.",
            )
        proxied = "" if not isinstance(error, httpx.ProxyError) else "the proxy says: "
        return Unreachable(
            f"the Prefect server at {told.shown} does not answer: {proxied}{what}.",
            hint="Start it with `prefect server start`, or correct PREFECT_API_URL. A proxy that is named in"
            " HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is asked for it, unless NO_PROXY names its host.",
        )

    def _refused(self, answer: httpx.Response) -> HoldfastError:
        told, status = self._settings, answer.status_code
        detail = _detail(answer)
        if status == 404:
            if detail is None or detail == "Not Found":
                return self._no_prefect()
            return NotThere(f"the Prefect server at {told.shown} says: {detail}")
        said = f"the Prefect server at {told.shown} refuses: HTTP status {status}"
        if status in (401, 403):
            return ConfigError(
                f"{said}.",
                hint="Look at PREFECT_API_AUTH_STRING if the server wants a password, at PREFECT_API_KEY if it wants a"
                " key, and at PREFECT_API_URL.",
            )
        if status == 407 or status in _BUSY:
            return Unreachable(
                f"{said}.",
                hint="It is overloaded, or what stands before it (a proxy) does not reach it. Start this again, and"
                " look at PREFECT_API_URL, HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
            )
        return ConfigError(
            f"{said}{f', {detail}' if detail else ''}.", hint="Look at PREFECT_API_URL and at what you asked for."
        )

    def _no_prefect(self) -> ConfigError:
        return ConfigError(
            f"what answers at {self._settings.shown} is not Prefect's API.",
            hint="Correct PREFECT_API_URL: it ends with /api, as http://127.0.0.1:4200/api. A login page of a proxy"
            " answers like this, too.",
        )


def _login(told: PrefectSettings) -> httpx.Auth | None:
    """Return how to log in, by Prefect's rule: the password goes before the key."""
    if told.auth_string:
        user, _, password = told.auth_string.partition(":")
        return httpx.BasicAuth(user, password)
    return _Key(told.key) if told.key else None


class _Key(httpx.Auth):
    """Logs in with an API key. As an Auth of httpx, it is not sent on to another host by a redirect."""

    def __init__(self, key: str) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx.Auth."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


def _trust(told: PrefectSettings) -> ssl.SSLContext | bool:
    if not told.verify:
        return False
    return ssl.create_default_context(cafile=told.certificates) if told.certificates else True


def _date(answer: httpx.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError):
        return None


def _detail(answer: httpx.Response) -> str | None:
    """Return what the server says of a refusal; None if this is not Prefect's way to say it."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return printable(str(detail))[:300]
