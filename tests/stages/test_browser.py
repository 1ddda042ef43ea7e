"""The site in a real browser, Chromium, which finds it by asking the project's own name server.

Screenshots of what it saw are kept in .ladder/test-screenshots/, for people to look at.
"""

import json
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from docker.models.containers import Container
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from ladder import certificates, door, images
from ladder.aside import free_port
from ladder.engine import client
from ladder.settings import ROOT
from ladder.wait import wait_until
from tests.stack import PASSWORD, Stack

SCREENSHOTS = ROOT / ".ladder/test-screenshots"
PHONE, DESKTOP, PROJECTOR = (360, 740), (1280, 900), (1920, 1080)


@pytest.fixture
def browser(stack: Stack) -> Iterator[WebDriver]:
    """Chromium in a container on the visitors' side of the edge."""
    image = images.build_one(stack.settings, "browser", "tests/browser")
    port = free_port()
    container = client().containers.run(
        image,
        detach=True,
        dns=[f"{stack.settings.subnet_prefix}.0.2"],
        environment={"HOME": "/tmp"},
        network=f"{stack.settings.project}_access",
        ports={"9515/tcp": ("127.0.0.1", port)},
        tmpfs={"/tmp": "mode=1777"},
    )
    driver = None
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(address), within=30, what="chromedriver answers")
        if stack.stage.https:
            trust(container)
        options = webdriver.ChromeOptions()
        for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"):
            options.add_argument(word)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.ignore_local_proxy_environment_variables()
        driver = webdriver.Remote(address, options=options)
        yield driver
    finally:
        if driver is not None:
            driver.quit()
        container.remove(force=True)


def is_ready(address: str) -> bool:
    """The driver takes sessions."""
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{address}/status", timeout=2) as answer:
            return bool(json.load(answer)["value"]["ready"])
    except OSError:
        return False


def site(stack: Stack, path: str = "/") -> str:
    """An address that the browser, in front of the edge, finds by the site's name alone."""
    return f"{'https' if stack.stage.https else 'http'}://{door.HOST}{path}"


def trust(container: Container) -> None:
    """Have the browser of this container trust our authority, as `make trust` does on a machine with Chromium."""
    keep = "mkdir -p /tmp/.pki/nssdb && cd /tmp/.pki/nssdb && cat >/tmp/ca.crt && certutil -N --empty-password -d sql:."
    add = "certutil -A -d sql:. -n ours -t C,, -i /tmp/ca.crt"
    command = ["docker", "exec", "--interactive", str(container.id), "sh", "-c", f"{keep} && {add}"]
    subprocess.run(command, input=certificates.ROOT_CERTIFICATE.read_bytes(), check=True)


def find(browser: WebDriver, css: str) -> Any:
    """The element, as soon as there is one."""
    return wait_until(lambda: browser.find_elements(By.CSS_SELECTOR, css), within=20, what=f"{css} is on the page")[0]


def show(browser: WebDriver, stack: Stack, name: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> None:
    """Have the page in a size and a colour scheme, and keep a picture of it."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    devtools(browser, "Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    still = {"name": "prefers-reduced-motion", "value": "reduce"}  # no picture of a colour half changed
    devtools(browser, "Emulation.setEmulatedMedia", {"features": [scheme, still]})
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    shade = "dark" if dark else "light"
    browser.save_screenshot(str(SCREENSHOTS / f"stage{stack.stage.number}-{name}-{size[0]}-{shade}.png"))


def devtools(browser: WebDriver, command: str, values: dict[str, Any]) -> None:
    """A command of Chromium's own protocol."""
    browser.execute("executeCdpCommand", {"cmd": command, "params": values})


def complaints(browser: WebDriver) -> list[str]:
    """What the console says: errors, things refused by the content security policy, files not found."""
    return [entry["message"] for entry in browser.execute("getLog", {"type": "browser"})["value"]]


def hosts(browser: WebDriver) -> set[str]:
    """Every host that the page asked for anything."""
    script = (
        "return performance.getEntries().map(e => e.name).filter(n => n.startsWith('http')).map(n => new URL(n).host)"
    )
    found: list[str] = browser.execute_script(script)
    return set(found)


def overflow(browser: WebDriver) -> int:
    """By how many pixels the page is wider than the window."""
    script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    return int(browser.execute_script(script))


def send(browser: WebDriver, form: str, **fields: str) -> None:
    """Fill in a form and press its button."""
    for name, text in fields.items():
        field = find(browser, f"{form} [name={name}]")
        field.clear()
        field.send_keys(text)
    find(browser, f"{form} button").click()


def station_names(browser: WebDriver) -> list[str]:
    """The strip on the page, in order."""
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, ".way b")]


@pytest.mark.stage(0, 2)
def test_somebody_joins_writes_changes_takes_down_and_leaves(stack: Stack, browser: WebDriver) -> None:
    name, mark = f"Grace-{uuid.uuid4().hex[:6]}", uuid.uuid4().hex[:8]
    text = f"<b>{mark}</b> <script>document.title = 'stolen'</script> & Grüße, 漢字"

    browser.get(site(stack))
    assert browser.find_elements(By.CSS_SELECTOR, "article .body"), "the wall is empty at first sight"
    stations = station_names(browser)
    assert [s.rstrip("12") for s in stations] == (["lb"] if stack.stage.number else []) + ["web", "app", "db", "db"]
    assert stations[-1] == stack.holder("primary")
    show(browser, stack, "wall")

    find(browser, ".account .button").click()
    send(browser, "main form", name=name, password="short")
    assert "10 to 128" in find(browser, ".error").text
    show(browser, stack, "join")
    send(browser, "main form", name=name, password=PASSWORD)
    assert find(browser, ".account .who").text == name

    send(browser, "form.compose", body=text)
    own = wait_until(lambda: articles(browser, mark), within=20, what="the own message is on the wall at once")[0]
    assert own.find_element(By.CSS_SELECTOR, ".body").text == text, "HTML in a message is text"
    assert browser.title == "www.foobar.com"
    show(browser, stack, "posted")

    own.find_element(By.PARTIAL_LINK_TEXT, "Edit").click()
    send(browser, "form.compose", body=f"{mark} changed")
    own = wait_until(lambda: articles(browser, f"{mark} changed"), within=20, what="the change is on the wall")[0]
    assert own.find_element(By.CSS_SELECTOR, ".edited").text == "edited"

    own.find_element(By.PARTIAL_LINK_TEXT, "Delete").click()
    assert f"{mark} changed" in find(browser, "blockquote").text
    show(browser, stack, "delete")
    find(browser, "main form button").click()
    wait_until(
        lambda: browser.find_elements(By.CSS_SELECTOR, "article") and not articles(browser, mark),
        within=20,
        what="the message is gone",
    )

    find(browser, ".account form button").click()
    assert find(browser, ".account .button").text == "Join"
    assert not browser.find_elements(By.CSS_SELECTOR, ".own")
    expected = [line for line in complaints(browser) if "status of 400" not in line]  # the short password
    assert expected == []


def articles(browser: WebDriver, text: str) -> list[Any]:
    """The messages with a text in them. Asked in one go: between two questions the page may be another."""
    search = "return [...document.querySelectorAll('article')].filter(a => a.innerText.includes(arguments[0]))"
    return list(browser.execute_script(search, text))


@pytest.mark.stage(1)
def test_it_is_good_on_a_phone_on_a_projector_and_in_the_dark(stack: Stack, browser: WebDriver) -> None:
    long = "x" * 300
    with stack.author(f"{'W' * 24}{uuid.uuid4().hex[:8]}") as author:
        assert author.post("/api/messages", json={"body": f"{long} and 漢字 🦄\nsecond line"}).status_code == 201
    for page, path in (("wall", "/"), ("join", "/register"), ("login", "/login"), ("nothing", "/no-such-page")):
        browser.get(site(stack, path))
        for size in (PHONE, DESKTOP, PROJECTOR):
            for dark in (False, True):
                show(browser, stack, page, size, dark=dark)
                assert overflow(browser) <= 0, f"{path} scrolls sideways at {size[0]} px"
        assert hosts(browser) == {"www.foobar.com"}
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert paper != "rgba(0, 0, 0, 0)", "the style sheet is missing"
        assert "sans" in browser.execute_script("return getComputedStyle(document.body).fontFamily")
    assert [line for line in complaints(browser) if "status of 404" not in line] == []


@pytest.mark.stage(1)
def test_it_can_be_used_by_keyboard_alone(stack: Stack, browser: WebDriver) -> None:
    def focused() -> str:
        return str(browser.switch_to.active_element.text)

    def press(*keys: str) -> None:
        webdriver.ActionChains(browser).send_keys(*keys).perform()

    browser.get(site(stack))
    press(Keys.TAB)
    assert focused() == "Skip to the content"
    assert browser.switch_to.active_element.rect["x"] >= 0, "it is focused and can't be seen"
    show(browser, stack, "skip")
    press(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"

    browser.get(site(stack))
    seen = []
    for _ in range(5):
        press(Keys.TAB)
        seen.append(focused())
    assert "Join" in seen
    while focused() != "Join":
        press(Keys.SHIFT, Keys.TAB, Keys.NULL)
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "where the focus is can't be seen"
    press(Keys.ENTER)
    find(browser, "main form")
    press(Keys.TAB)
    find(browser, "[name=name]").send_keys(f"keys-{uuid.uuid4().hex[:6]}", Keys.TAB, PASSWORD, Keys.ENTER)
    find(browser, "form.compose textarea").send_keys("typed without a mouse", Keys.TAB, Keys.ENTER)
    wait_until(lambda: articles(browser, "typed without a mouse"), within=20, what="the message is on the wall")
