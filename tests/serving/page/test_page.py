"""The page in a real browser: each control, awkward titles, a service that goes away."""

import re

import pytest
from playwright.sync_api import Page, expect

from seqdiffrec.serving import create_app
from seqdiffrec.serving.keys import Keys, add_key
from tests.serving.page.conftest import LONG, MARKUP

expect.set_options(timeout=20_000)  # a machine may be busy

FIRST = "#next li:first-child"


def go(page: Page, served, state: str = "") -> None:
    page.goto("about:blank")
    page.goto(served.url + state)
    expect(page.locator("#next li").first).to_be_visible()
    settle(page)


def settle(page: Page) -> None:
    page.wait_for_timeout(120)
    expect(page.locator("#next:not([aria-busy])")).to_have_count(1)


def names(page: Page, where: str = "#next .name") -> list[str]:
    return page.locator(where).all_text_contents()


def search(page: Page, text: str) -> None:
    page.get_by_role("combobox", name=re.compile("Add to the history")).fill(text)


def history(page: Page) -> list[str]:
    return names(page, "#history li > span")


def test_an_empty_history_gets_the_most_popular(page, served) -> None:
    go(page, served)
    expect(page.locator("#next-note")).to_contain_text("items that most people take")
    expect(page.locator("#about")).to_have_text(
        "DiffRec, diffusion over the next item's representation; trained on films, 40 items"
    )
    assert len(names(page)) == 10 and history(page) == []


def test_search_take_remove_leave_out_undo(page, served) -> None:
    go(page, served)
    search(page, "the matrix")
    expect(page.locator("[role=option]")).to_have_text(["Matrix, The (1999)11"])
    page.keyboard.press("Enter")
    settle(page)
    assert history(page) == ["Matrix, The (1999)"]
    expect(page.locator("#next-note")).to_be_hidden()
    before = names(page)
    assert "Matrix, The (1999)" not in before

    taken = before[1]
    page.get_by_role("button", name=f"What if I take this next: {taken}").click()
    settle(page)
    assert history(page) == ["Matrix, The (1999)", taken]
    assert taken not in names(page) and names(page) != before
    expect(page.locator("#live")).to_contain_text("The list has changed")
    assert page.locator("#next .moved").count() > 0

    left_out = names(page)[0]
    page.get_by_role("button", name=f"Leave out {left_out}").click()
    settle(page)
    assert left_out not in names(page)
    page.locator("#undo").click()
    settle(page)
    assert names(page)[0] == left_out
    page.get_by_role("button", name=f"Leave out {left_out}").click()
    settle(page)
    page.get_by_role("button", name=f"Put {left_out} back").click()
    settle(page)
    assert names(page)[0] == left_out

    page.get_by_role("button", name="Remove Matrix, The (1999) from the history").click()
    settle(page)
    assert history(page) == [taken]
    page.get_by_role("button", name="Start over").click()
    settle(page)
    assert history(page) == []
    page.go_back()
    settle(page)
    assert history(page) == [taken]


def test_a_user(page, served) -> None:
    go(page, served)
    page.get_by_role("combobox", name="Or pick a user").fill("200")
    expect(page.locator("[role=option]").first).to_have_text("User 20040 items")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    settle(page)
    expect(page.locator("#history-note")).to_have_text(
        re.compile("^User 200. 40 items, .* The model reads the newest 5.$")
    )
    expect(page.locator("#next-note")).to_have_text("No item is left to recommend.")
    page.locator("#viewed").uncheck()
    settle(page)
    assert len(names(page)) == 10
    expect(page).to_have_url(f"{served.url}#user=200&viewed=shown")


def test_a_user_whom_nobody_knows(page, served) -> None:
    go(page, served)
    page.get_by_role("combobox", name="Or pick a user").fill("nobody")
    page.locator("[role=option]", has_text="User nobody").click()
    expect(page.locator("#next-note")).to_contain_text("Nothing is known of user nobody")


def test_an_event_changes_the_list(page, served) -> None:
    event = {"user_id": "newcomer", "item_id": 11, "key": "one"}
    assert page.request.post(f"{served.url}v1/events", data=event).status == 201
    go(page, served, "#user=newcomer")
    assert history(page) == ["Matrix, The (1999)"]


def test_seeds_and_their_picks(page, served) -> None:
    go(page, served, "#history=11,12&k=5")
    expect(page.locator("#seeds")).to_have_value("3")
    three = page.locator("#next .share").all_text_contents()
    page.get_by_role("slider", name="Seeds").fill("20")
    settle(page)
    expect(page.locator("#seeds-shown")).to_have_text("20")
    assert page.locator("#next .share").all_text_contents() != three
    page.get_by_role("slider", name="Seeds").fill("4")
    page.get_by_role("button", name="Show what each seed picks").click()
    settle(page)
    expect(page.locator("#picks-grid section")).to_have_count(4)
    expect(page.locator("#picks-grid section").first.locator("li")).to_have_count(5)
    expect(page.locator(FIRST)).to_contain_text(re.compile(r"picked by \d of 4 seeds|in no seed"))
    page.locator("#picks-grid li").first.hover()
    assert page.locator("#picks-grid .lit").count() >= 1
    page.get_by_role("button", name="Hide what each seed picks").click()
    expect(page.locator("#picks")).to_be_hidden()


def test_the_address_holds_the_state(page, served) -> None:
    go(page, served, "#history=11,12,13&without=20&seeds=2&k=20")
    shown = names(page), history(page), page.locator("#excluded span").all_text_contents()
    assert len(shown[1]) == 3 and shown[2] == ["Film 20"]
    page.locator("#length").select_option("5")
    settle(page)
    expect(page).to_have_url(re.compile("k=5"))
    address = page.url
    go(page, served, address.removeprefix(served.url))
    assert names(page) == shown[0][:5]
    go(page, served, "#history=%E0%A4%A,11&k=7&seeds=many&noise=-4&user=")  # cut off and mistyped
    assert history(page) == ["Matrix, The (1999)"]


def test_unknown_items_and_titles(page, served) -> None:
    go(page, served, "#history=11,9999")
    expect(page.locator("#next-note")).to_have_text("1 item is unknown to the model and left out.")
    assert history(page)[1] == "Item 9999 (unknown)"
    search(page, "no such film")
    expect(page.locator("#find-item .message")).to_have_text("No item's title holds “no such film”.")
    page.keyboard.press("Escape")
    expect(page.locator("#find-item .message")).to_be_hidden()


def test_markup_in_a_title_is_text(page, served) -> None:
    go(page, served, "#viewed=shown&k=50&picks=shown&history=13")
    search(page, "onerror")
    expect(page.locator("[role=option]")).to_contain_text(MARKUP)
    page.keyboard.press("Enter")
    settle(page)
    assert history(page) == [MARKUP, MARKUP] and MARKUP in names(page)
    page.get_by_role("tab", name="The run").click()
    expect(page.locator("#way-after")).to_contain_text(MARKUP)
    assert page.locator("img").count() == page.locator("main b").count() == 0
    assert page.title() == "What comes next? – SeqDiffRec"


def test_a_very_long_title_stays_in_its_place(page, served) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    go(page, served, "#viewed=shown&k=50&picks=shown&history=14,13,11")
    assert LONG in names(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    tallest = max(box["height"] for box in (row.bounding_box() for row in page.locator("#next li").all()) if box)
    assert tallest < 200
    page.get_by_role("button", name=re.compile("^What if I take this next: A very long")).click()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator("#toast").bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360
    page.get_by_role("tab", name="The run").click()
    expect(page.locator("#map .state")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_by_keyboard_alone(page, served) -> None:
    go(page, served)
    page.keyboard.press("Tab")
    expect(page.locator("#skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#item-input")).to_be_focused()
    page.keyboard.type("thing")
    expect(page.locator("[role=option]")).to_have_count(1)
    page.keyboard.press("Enter")
    settle(page)
    page.locator(f"{FIRST} .take").focus()
    page.keyboard.press("Enter")
    settle(page)
    assert len(history(page)) == 2
    expect(page.locator(f"{FIRST} .take")).to_be_focused()  # the place in the list is kept
    page.locator("#tab-ask").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-run")).to_be_focused()
    expect(page.locator("#run")).to_be_visible()


def test_the_run(page, served) -> None:
    go(page, served, "#tab=ask&history=11,12")
    page.get_by_role("tab", name="The run").click()
    expect(page.locator("#loss .line-0 circle")).to_have_count(2)
    expect(page.locator("#figures tbody tr")).to_have_count(2)
    page.locator("#metric").select_option("HR@5")
    expect(page.locator("#validation svg")).to_have_attribute("aria-label", re.compile(r"HR@5"))
    expect(page.locator("#facts")).to_contain_text("films: 31 users, 40 items")
    expect(page.locator("#way-after")).to_contain_text("After Matrix, The (1999), The Thing")

    expect(page.locator("#stage-shown")).to_have_text("0 of 40")
    at_the_end = page.locator("#map .state").get_attribute("cx")
    page.locator("#stage").fill("0")
    expect(page.locator("#stage-shown")).to_have_text("40 of 40")
    expect(page.locator("#said li")).to_have_count(5)
    expect(page.locator("#near li")).to_have_count(5)
    assert page.locator("#map .state").get_attribute("cx") != at_the_end
    page.locator("#noise-seed").fill("7")
    page.locator("#noise-seed").press("Enter")
    expect(page.locator("#stage-shown")).to_have_text("0 of 40")
    expect(page).to_have_url(re.compile("noise=7"))

    page.emulate_media(reduced_motion="no-preference")
    page.locator("#play").click()
    expect(page.locator("#play")).to_have_text("Pause")
    expect(page.locator("#stage-shown")).to_have_text(re.compile("^3[0-8] of 40$"))  # it moves
    page.locator("#play").click()
    expect(page.locator("#play")).to_have_attribute("aria-pressed", "false")


def test_the_service_goes_away_and_comes_back(page, served) -> None:
    go(page, served, "#history=11")
    before = names(page)
    served.stop()
    page.locator(f"{FIRST} .take").click()
    expect(page.locator("#banner")).to_contain_text("The service does not answer.")
    assert names(page) == before
    served.start()
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#banner")).to_be_hidden()
    settle(page)
    assert before[0] not in names(page)
    assert len(history(page)) == 2


def test_an_overtaken_answer_is_dropped(page, served) -> None:
    go(page, served)
    slow: list = []
    page.route("**/v1/recommendations", lambda route: route.continue_() if slow else slow.append(route))
    page.evaluate("location.hash = '#history=11'")
    page.wait_for_timeout(150)
    page.evaluate("location.hash = '#history=12,13'")
    settle(page)
    shown = names(page)
    for route in slow:
        route.fulfill(
            json={"model": {}, "recommendations": [], "history_length": 1, "skipped": {"count": 0}, "picks": None}
        )
    page.wait_for_timeout(100)
    assert len(slow) == 1 and names(page) == shown and len(history(page)) == 2


def test_quick_clicks_lose_nothing(page, served) -> None:
    go(page, served, "#history=11")
    page.evaluate("document.querySelectorAll('#next .take').forEach((take, place) => place < 3 && take.click())")
    settle(page)
    assert len(history(page)) == 4


def test_another_model_is_noticed(page, served) -> None:
    go(page, served)
    expect(page.locator("#newer")).to_be_hidden()

    def from_another(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"model": {"run": "b", "model": "sasrec", "hash": "b"}})

    page.route("**/v1/recommendations", from_another)
    page.evaluate("location.hash = '#history=11'")
    expect(page.locator("#newer")).to_be_visible()
    page.unroute("**/v1/recommendations")
    page.get_by_role("button", name="Load the page anew").click()
    expect(page.locator("#newer")).to_be_hidden()
    expect(page.locator("#history li > span")).to_have_text(["Matrix, The (1999)"])


def test_a_busy_service_is_asked_again(page, served) -> None:
    refusals = [{"status": 503, "headers": {"Retry-After": "1"}, "body": "{}"}]
    page.route("**/v1/page/run", lambda route: route.fulfill(**refusals.pop()) if refusals else route.continue_())
    go(page, served)
    assert refusals == []
    expect(page.locator("#banner")).to_be_hidden()


def test_a_refusal_is_told(page, served) -> None:
    go(page, served)
    problem = {"status": 422, "detail": "this cannot be"}
    page.route("**/v1/recommendations", lambda route: route.fulfill(status=422, json=problem))
    page.evaluate("location.hash = '#history=11'")
    expect(page.locator("#next-note")).to_have_text("This cannot be.")


def test_a_key_is_asked_for_once(page, served, run, tmp_path) -> None:
    key = add_key(tmp_path / "keys.json", "page")
    app = create_app(run, store=tmp_path / "events.sqlite", keys=Keys(tmp_path / "keys.json"))
    with served.elsewhere(app):
        page.goto(served.url)
        expect(page.get_by_role("dialog", name="A key is needed")).to_be_visible()
        page.get_by_label("Key", exact=True).fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-wrong")).to_be_visible()
        page.get_by_label("Key", exact=True).fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#next li").first).to_be_visible()
        page.reload()
        expect(page.locator("#next li").first).to_be_visible()
        expect(page.locator("dialog")).to_be_hidden()
        assert key not in page.url


@pytest.mark.parametrize("width", [1200, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page, served, axe, scheme, width) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    go(page, served, "#history=11,12,9999&without=20&picks=shown")
    page.locator(f"{FIRST} .take").click()
    settle(page)
    assert axe(page) == []
    search(page, "film")
    expect(page.locator("[role=option]").first).to_be_visible()
    assert axe(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="The run").click()
    expect(page.locator("#map .state")).to_be_visible()
    page.locator("#run details").first.locator("summary").click()
    assert axe(page) == []
