"""The pytest plugin: in a run of its own, as a user's tests have it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "engagement_async.emulator.pytest_plugin"
ARGUMENTS = ("-p", PLUGIN, "-p", "no:cacheprovider", "--strict-markers")


@pytest.fixture(autouse=True)
def _no_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an installed package loads the plugin by its entry point, and `-p` would load it twice."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_the_fixture_and_its_marker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import urllib.error
        import urllib.request

        import pytest

        pytestmark = pytest.mark.engagement_emulator(requests_per_minute=5, faults={"503": 2})


        def status(emulator):
            request = urllib.request.Request(
                emulator.base_url + "/insights/engagement/totals",
                data=(
                    b'{"tweet_ids": ["1"], "engagement_types": ["favorites"],'
                    b' "groupings": {"g": {"group_by": ["tweet.id"]}}}'
                ),
                headers={
                    "Authorization": "Bearer " + emulator.bearer_token,
                    "Content-Type": "application/json",
                    "Accept-Encoding": "gzip",
                },
            )
            try:
                with urllib.request.urlopen(request) as response:
                    return response.status
            except urllib.error.HTTPError as error:
                error.close()
                return error.code


        def test_plain(engagement_emulator):
            assert engagement_emulator.requests_per_minute == 5
            assert [status(engagement_emulator) for _ in range(3)] == [200, 503, 200]
            assert engagement_emulator.log.faults == {"503": 1}


        @pytest.mark.engagement_emulator(requests_per_minute=7)
        def test_the_nearest_mark_wins(engagement_emulator):
            assert engagement_emulator.requests_per_minute == 7
            assert [status(engagement_emulator) for _ in range(2)] == [200, 503]


        def test_async_code_of_any_kind(engagement_emulator):
            async def main():
                return await asyncio.to_thread(status, engagement_emulator)

            assert asyncio.run(main()) == 200
        """
    )

    pytester.runpytest_subprocess(*ARGUMENTS).assert_outcomes(passed=3)


def test_a_marker_without_names_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest


        @pytest.mark.engagement_emulator(60)
        def test_it(engagement_emulator):
            pass
        """
    )

    result = pytester.runpytest_subprocess(*ARGUMENTS)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*takes keyword arguments alone*"])


def test_the_plugin_imports_nothing_heavy() -> None:
    heavy = ("aiohttp", "authlib", "asyncio", "ssl")
    code = f"""
import sys, types
package = types.ModuleType("engagement_async")  # what the package itself imports is not the plugin's
package.__path__ = {[str(path) for path in __import__("engagement_async").__path__]!r}
sys.modules["engagement_async"] = package
import pytest
before = set(sys.modules)
import {PLUGIN}
print(*sorted((set(sys.modules) - before) & set({heavy!r})))
"""

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert run.stdout.split() == []
