"""The script of docs/howto/terraform.md, as it stands there, against a real Prefect server."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast.base.settings import PROJECT
from tests.server.conftest import DEPLOYMENT, Prefect

pytestmark = pytest.mark.skipif(not shutil.which("jq") or not shutil.which("curl"), reason="no jq or no curl here")
PASSWORD = "admin:poison-word"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = (PROJECT / "docs" / "howto" / "terraform.md").read_text()
    [text] = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    path = tmp_path_factory.mktemp("page") / "start-install.sh"
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(script: Path, prefect: Prefect, *words: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PREFECT_API_URL": prefect.url} | ({"CURL_CONFIG": str(config)} if config else {})
    return subprocess.run([str(script), *words], env=env, capture_output=True, text=True, check=False, timeout=300)


def test_it_is_clean(script: Path) -> None:
    subprocess.run(["shellcheck", str(script)], check=True)


def test_waits_for_a_run_that_is_completed(script: Path, prefect: Prefect) -> None:
    prefect.start_server()
    prefect.start_serving()
    done = run(script, prefect, DEPLOYMENT, "cottage", '{"way": "nothing"}')
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^run [0-9a-f-]{36}: Completed: ", done.stdout, re.MULTILINE)


def test_a_run_that_fails_and_one_that_is_refused(script: Path, prefect: Prefect) -> None:
    failed = run(script, prefect, DEPLOYMENT, "", '{"way": "nothing"}')
    assert failed.returncode == 1
    assert "Failed: " in failed.stdout
    assert run(script, prefect, DEPLOYMENT, "cottage", '{"way": "unknown"}').returncode != 0
    assert run(script, prefect, "install/barn", "barn").returncode != 0


def test_password(script: Path, prefect: Prefect, tmp_path: Path) -> None:
    prefect.stop("serve")
    prefect.stop("server")
    prefect.asks_for(PASSWORD)
    prefect.start_server()
    prefect.start_serving()
    refused = run(script, prefect, DEPLOYMENT, "cottage", '{"way": "nothing"}')
    assert refused.returncode != 0
    assert "401" in refused.stderr
    config = tmp_path / "curl"
    config.write_text(f'user = "{PASSWORD}"\n')
    assert run(script, prefect, DEPLOYMENT, "cottage", '{"way": "nothing"}', config=config).returncode == 0
