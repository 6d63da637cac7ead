"""Every example runs as its page says, against the emulator."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset
import pyarrow.parquet as pq
import pytest
from aiohttp.test_utils import TestClient, TestServer

from engagement_async.emulator import Emulator, tweet_ids
from tests.example_notebook import EXAMPLES, SHARED, sources, unexecuted
from tests.support.notebooks import execute, html_of, read_notebook, text_of
from tests.support.ray_local import ray_environment

IDS = (EXAMPLES / "tweets.txt").read_text().split()
GONE = IDS[1]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Return an emulator that the environment points to."""
    with Emulator(60_000, unavailable=[GONE], unavailable_fraction=0.0, log_size=None) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        yield emulator


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return an example as a module; what the examples share is read anew, since it looks at the environment."""
    monkeypatch.syspath_prepend(EXAMPLES)
    for each in ("settings", name):
        monkeypatch.delitem(sys.modules, each, raising=False)
    return importlib.import_module(name)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)


def test_every_example_is_on_the_page_and_has_a_test() -> None:
    page = (EXAMPLES / "README.md").read_text()
    tests = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"[{path.name}]({path.name})" in page
        assert path.name == "settings.py" or f'"{path.stem}"' in tests or f'"{path.stem}.' in tests


async def test_handlers_of_the_web_application_share_one_client(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = imported("web_application", monkeypatch).make_app()
    expected = emulator.expected("totals", IDS[:1], ["favorites"], {"all": ["engagement.type"]})

    async with TestClient(TestServer(app)) as visitor:
        answer = await visitor.get("/favorites", params={"ids": f"{IDS[0]},{GONE}"})
        body = await answer.json()
        refused = await visitor.get("/favorites", params={"ids": "1.7E+18"})
        reason = await refused.text()

    assert body == {"favorites": {IDS[0]: expected["all"]["favorites"]}, "unavailable": [GONE], "failed": {}}
    assert refused.status == 400
    assert not emulator.log.refusals
    assert "1.7E+18" in reason


async def test_the_web_application_reports_an_api_that_refuses_it(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = imported("web_application", monkeypatch).make_app()
    emulator.revoke()

    async with TestClient(TestServer(app)) as visitor:
        answer = await visitor.get("/favorites", params={"ids": IDS[0]})

    assert answer.status == 502


def test_the_notebook_is_what_its_source_says() -> None:
    assert sources(read_notebook(EXAMPLES / "notebook.ipynb")) == sources(unexecuted()), "make notebook"


def test_the_cells_of_the_notebook_run(emulator: Emulator, tmp_path: Path) -> None:
    for name in SHARED:
        shutil.copy(EXAMPLES / name, tmp_path)

    done = execute(read_notebook(EXAMPLES / "notebook.ipynb"), tmp_path, emulator.environment)

    assert not emulator.log.refusals
    shown = [html_of(cell) + text_of(cell) for cell in done.cells if cell.cell_type == "code"]
    for number, text in (
        (1, "EngagementResult: totals"),
        (2, "favorites"),
        (3, f"({len(IDS)}, {len(IDS)}, {-(-len(IDS) // 25)})"),
        (4, "2025-12-05"),
        (5, f"{len(IDS)} of {len(IDS)} done"),
        (6, "BackfillJob jobs/totals"),
        (7, "PullReport"),
        (8, "EngagementSeries jobs/tweets.duckdb"),
    ):
        assert text in shown[number]


def test_the_nightly_job_exports_and_can_be_run_again(emulator: Emulator, tmp_path: Path) -> None:
    first = run(EXAMPLES / "nightly_job.py", tmp_path / "jobs", EXAMPLES / "tweets.txt")
    requests = emulator.log.requests
    again = run(EXAMPLES / "nightly_job.py", tmp_path / "jobs", EXAMPLES / "tweets.txt")

    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert emulator.log.requests == requests
    assert not emulator.log.refusals
    (table,) = (tmp_path / "jobs").glob("*.parquet")
    assert set(pq.read_table(table)["tweet_id"].to_pylist()) == set(IDS) - {GONE}
    (outcomes,) = (tmp_path / "jobs").glob("*-outcomes.csv")
    assert f"{GONE},unavailable" in outcomes.read_text()
    (page,) = (tmp_path / "jobs").glob("*.html")
    assert "<svg" in page.read_text()


def test_many_owners_have_one_table_and_fail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(60_000, owners=5) as emulator:
        for name, value in emulator.environment.items():
            monkeypatch.setenv(name, value)
        owners, ids = tmp_path / "owners.csv", tmp_path / "ids.csv"
        owned = [f"{emulator.owner_of(i)},{i}\n" for i in tweet_ids(60, newest_at=time.time())]
        ids.write_text("owner,tweet_id\n" + "".join(owned))
        owners.touch(0o600)

        def attempt() -> subprocess.CompletedProcess[str]:
            lines = [f"{each.handle},{each.access_token},{each.access_token_secret}" for each in emulator.owners]
            owners.write_text("owner,access_token,access_token_secret\n" + "\n".join(lines))
            return run(EXAMPLES / "many_owners.py", owners, ids, tmp_path / "job")

        emulator.revoke("owner2")
        first = attempt()
        emulator.reissue("owner2")
        again = attempt()

    assert (first.returncode, again.returncode) == (3, 0), first.stderr + again.stderr
    assert "owner2: the credentials were refused" in first.stderr
    names = {line.split(",")[0] for line in (tmp_path / "job-by_owner.csv").read_text().splitlines()[1:]}
    assert names == {f"owner{number}" for number in range(1, 6)}


def test_the_tests_with_the_emulator_pass() -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "test_with_emulator.py")

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_every_one_of_many_callers_is_served(emulator: Emulator) -> None:
    done = run(EXAMPLES / "many_callers.py", EXAMPLES / "tweets.txt")

    assert "200 of 200 callers were served" in done.stdout, done.stdout + done.stderr
    assert emulator.log.requests < 10


ENGINES = {
    "ray_pipeline.py": ("ray", "40 Tweets were fetched, and 0 were there; 0 are pending"),
    "spark_pipeline.py": ("pyspark", "unavailable"),
    "dask_pipeline.py": ("dask", "unavailable"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_pipelines_have_a_row_for_each_tweet(
    name: str, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, said = ENGINES[name]
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed: make engines")
    if engine == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java: apt-get install default-jre-headless")
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as short:
        local = {**ray_environment(), "RAY_TMPDIR": short, "SPARK_LOCAL_IP": "127.0.0.1"}
        local["PYSPARK_SUBMIT_ARGS"] = (
            "--master local[2] --conf spark.driver.host=127.0.0.1 --conf spark.ui.enabled=false pyspark-shell"
        )
        for variable, value in {**local, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(EXAMPLES.parent)}.items():
            monkeypatch.setenv(variable, value)

        done = run(EXAMPLES / name, EXAMPLES / "tweets.txt", tmp_path / "out")

    assert said in done.stdout, done.stdout + done.stderr
    rows = pa_dataset.dataset(tmp_path / "out").to_table()
    assert sorted(rows["tweet_id"].to_pylist()) == sorted(IDS)
    assert rows.filter(pc.field("state") != "answered")["tweet_id"].to_pylist() == [GONE]
    assert not emulator.log.refusals
