"""One complete list into a view, page by page, so that neither memory nor the event loop carries it whole.

Objects enter the view as their page comes: each is as true as one that a watch brought. What the list lacks
is forgotten only at its end. A list that is older than what the view has seen comes from a store that was
restored from a backup: that one is gathered first and taken in at one blow, since until its end nothing
could be said of what is absent.
"""

from __future__ import annotations

import asyncio

from fallow.kube.client import JSON, ApiServer, Listing
from fallow.kube.view import Followed, Key, key_of


async def take_list(
    api: ApiServer,
    view: Followed,
    *,
    namespace: str | None = None,
    field_selector: str | None = None,
    label_selector: str | None = None,
    page_size: int = 500,
) -> str:
    """Bring a view up to the newest state of all its kind within the selectors.

    Returns the list's resource version. Raises ApiErrors; what came until then stays in the view, and nothing
    was forgotten.
    """
    newest_before = view.newest
    gathered: list[JSON] = []
    listed: set[Key] = set()
    at = "0"
    async for page in api.pages(
        view.resource,
        namespace=namespace,
        field_selector=field_selector,
        label_selector=label_selector,
        page_size=page_size,
    ):
        at = page.resource_version
        if page.starts:
            gathered.clear()
            listed.clear()
        if int(at) < newest_before:
            gathered += page.items
            continue
        listed.update(key_of(obj) for obj in page.items)
        for obj in page.items:
            view.apply(obj)
        await asyncio.sleep(0)
    if int(at) < newest_before:
        view.replace(Listing(gathered, at), newest_before=newest_before)
    else:
        view.complete(listed, at=int(at))
    return at
