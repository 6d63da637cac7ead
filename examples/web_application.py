"""An aiohttp application whose handlers share one client: opened at start-up, closed at shutdown.

    python examples/web_application.py
    curl 'http://127.0.0.1:8000/favorites?ids=1070059276213702656,1021817816134156288'

The client holds the rate limit and the connections, so there is one per process and not one per request. A visitor who
goes away cancels the handler, and with it the call: what was not sent yet costs nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web
from settings import make_client

from engagement_async import EngagementClient, EngagementError, UsageError

CLIENT = web.AppKey("client", EngagementClient)


async def engagement_client(app: web.Application) -> AsyncIterator[None]:
    async with make_client() as client:
        app[CLIENT] = client
        yield


async def favorites(request: web.Request) -> web.Response:
    tweet_ids = [text for text in request.query.get("ids", "").split(",") if text]
    try:
        result = await request.app[CLIENT].totals(
            tweet_ids, engagement_types=["favorites"], groupings={"by_tweet": ["tweet.id", "engagement.type"]}
        )
    except UsageError as error:  # the visitor's IDs are not Tweet IDs
        raise web.HTTPBadRequest(text=str(error)) from None
    except EngagementError as error:  # the credentials, the address or the API
        raise web.HTTPBadGateway(text=str(error)) from None
    values = {tweet_id: metrics["favorites"] for tweet_id, metrics in result.groupings.get("by_tweet", {}).items()}
    return web.json_response(
        {"favorites": values, "unavailable": result.unavailable_tweet_ids, "failed": result.failed_tweet_ids}
    )


def make_app() -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(engagement_client)
    app.router.add_get("/favorites", favorites)
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=8000, handler_cancellation=True)
