"""A list into a view, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from fallow.errors import Unavailable
from fallow.kube.client import ApiServer, Page
from fallow.kube.listing import take_list
from unit.kube.test_kube_view import Watched, thing


class Pages:
    """Serves these pages; `seen` is what the view knew when each was asked for."""

    def __init__(self, it: Watched, *pages: Page, breaks: bool = False) -> None:
        self._it = it
        self._pages = pages
        self._breaks = breaks
        self.seen: list[int] = []

    async def pages(self, _resource: object, **_: Any) -> AsyncIterator[Page]:
        for page in self._pages:
            self.seen.append(len(self._it.view))
            yield page
        if self._breaks:
            raise Unavailable("cut")

    def server(self) -> ApiServer:
        return cast(ApiServer, self)


def page(*things: dict[str, Any], at: int = 20, starts: bool = False) -> Page:
    return Page(list(things), str(at), starts)


async def test_take_list__several_pages__enter_one_by_one_and_absence_counts_at_the_end() -> None:
    it = Watched()
    it.view.apply(thing("vanished", 5))
    served = Pages(it, page(thing("a", 7), starts=True), page(thing("b", 8)), page(thing("c", 9)))
    assert await take_list(served.server(), it.view) == "20"
    assert served.seen == [1, 2, 3]
    assert it.version("vanished") is None
    assert [it.version(name) for name in "abc"] == [7, 8, 9]
    assert it.view.synced.is_set()


async def test_take_list__cut_in_the_middle__forgets_nothing_and_is_not_synced() -> None:
    it = Watched()
    it.view.apply(thing("perhaps there", 5))
    served = Pages(it, page(thing("a", 7), starts=True), breaks=True)
    try:
        await take_list(served.server(), it.view)
    except Unavailable:
        pass
    else:
        raise AssertionError("the error did not come out")
    assert it.version("perhaps there") == 5
    assert not it.view.synced.is_set()


async def test_take_list__given_up_and_begun_again__what_only_the_first_had_is_forgotten() -> None:
    it = Watched()
    again = page(thing("a", 7), at=30, starts=True)
    served = Pages(it, page(thing("a", 7), thing("gone", 8), starts=True), again)
    assert await take_list(served.server(), it.view) == "30"
    assert it.version("a") == 7
    assert it.version("gone") is None


async def test_take_list__store_set_back__is_taken_in_at_one_blow() -> None:
    it = Watched()
    it.view.apply(thing("a", 90))
    it.view.apply(thing("lost with the backup", 95))
    served = Pages(it, page(thing("a", 40), at=50, starts=True), page(thing("b", 41), at=50))
    await take_list(served.server(), it.view)
    assert served.seen == [2, 2]  # not emptied before all was there
    assert (it.version("a"), it.version("b")) == (40, 41)
    assert it.version("lost with the backup") is None
