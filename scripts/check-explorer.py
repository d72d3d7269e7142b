"""Uses the explorer in headless Chromium, for `check-explorer`.

Arguments: the address with the token, the file of axe-core, and the directory for screenshots (empty: none).
"""

import sys
from pathlib import Path

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

address, axe_file, screenshots = sys.argv[1:4]
axe = Path(axe_file).read_text()
base = address.split("/?")[0]

DESKTOP, PHONE = (1280, 800), (360, 740)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]

options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
# In a container, Chromium's sandbox cannot be used; the pages are our own.
for argument in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]:
    options.add_argument(argument)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
browser = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


def check(condition, text):
    if not condition:
        raise SystemExit(f"error: {browser.current_url}: {text}")


def view(size, scheme):
    """Sets the size of the viewport, and the preferred color scheme."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width == PHONE[0]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def is_accessible(what):
    browser.execute_script(axe)
    run = "axe.run({ runOnly: arguments[0] }).then(arguments[1])"
    for found in browser.execute_async_script(run, RULES)["violations"]:
        places = [node["html"] for node in found["nodes"][:3]]
        check(False, f"{what}: {found['id']}: {found['help']}: {places}")


def fits():
    sizes = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, available = browser.execute_script(sizes)
    check(needed <= available, f"the page is {needed} px wide, of {available}")


def screenshot(name, size, scheme, path):
    """Takes a screenshot of a whole page, up to a limit."""
    if not screenshots:
        return
    view(size, scheme)
    browser.get(base + path)
    content = browser.execute_script("return document.documentElement.scrollHeight")
    view((size[0], min(content, 1400)), scheme)
    browser.save_screenshot(str(Path(screenshots) / f"explorer-{name}.png"))


def title():
    return browser.find_element(By.TAG_NAME, "h1").text


def arrives(expected):
    """Waits for the page with this title."""
    wait = WebDriverWait(browser, 20, ignored_exceptions=[NoSuchElementException, StaleElementReferenceException])
    try:
        wait.until(lambda _: title() == expected)
    except TimeoutException:
        check(False, f"this page is `{title()}`, not `{expected}`")


def press(*keys):
    webdriver.ActionChains(browser).send_keys(*keys).perform()


def focused():
    return browser.switch_to.active_element


def pages_are_accessible(pages):
    for path, expected in pages.items():
        for size in [DESKTOP, PHONE]:
            for scheme in ["light", "dark"]:
                view(size, scheme)
                browser.get(base + path)
                content = browser.find_element(By.TAG_NAME, "main").text
                check(expected in content, f"`{expected}` is missing: {content}")
                fits()
                is_accessible(f"{size[0]} px, {scheme}")
    print(f"{len(pages)} pages are accessible, in two sizes and two color schemes")


def the_keyboard_suffices():
    view(DESKTOP, "light")
    browser.get(base + "/")
    press(Keys.TAB)
    check(focused().text == "Skip to the content", "the first link skips to the content")
    check(focused().rect["x"] >= 0, "the link is visible when it has the focus")
    press(Keys.ENTER)
    check(focused().get_attribute("id") == "main", "the content has the focus")
    browser.get(base + "/")
    for _ in range(10):
        press(Keys.TAB)
        if focused().get_attribute("id") == "text":
            break
    press("order#1003", Keys.ENTER)
    arrives("order#1003")
    # To the first event of the stream, and to the next one.
    for _ in range(20):
        press(Keys.TAB)
        if focused().text == "1":
            break
    press(Keys.ENTER)
    arrives("order#1003 at version 1")
    browser.find_element(By.LINK_TEXT, "next event").send_keys(Keys.ENTER)
    arrives("order#1003 at version 2")
    print("the keyboard suffices to search and to read events")


def actions_change_projections():
    browser.get(base + "/consumers/overview")
    for button, state in [("Pause", "paused"), ("Resume", "ok")]:
        old = browser.find_element(By.TAG_NAME, "main")
        browser.find_element(By.XPATH, f"//button[text()='{button}']").click()
        WebDriverWait(browser, 20).until(expected_conditions.staleness_of(old))
        content = browser.find_element(By.TAG_NAME, "main").text
        check(f", {state}" in content, f"not {state}: {content}")
    print("a projection is paused and resumed")


try:
    browser.get(base + "/")
    check(title() == "Unauthorized", "the token is required")
    browser.get(address)
    check("token" not in browser.current_url, "the token stays in the address")
    browser.get(base + "/streams/order%231003/1")
    trace = browser.find_element(By.LINK_TEXT, "trace").get_attribute("href").removeprefix(base)
    pages_are_accessible({
        "/": "fulfillment",
        "/streams/order%231001": "OrderPlaced",
        "/streams/order%231001/3": "State after the event",
        trace: "wallet#Dora",
        "/feed": "position",
        "/consumers/overview": "Pause",
        "/consumers/fulfillment": "Pending timeouts",
        "/indexers": "Indexers add",
        "/keys/unknown": "There is no record",
        "/unknown": "There is no such page.",
    })
    the_keyboard_suffices()
    actions_change_projections()
    screenshot("overview", DESKTOP, "light", "/")
    screenshot("event", DESKTOP, "light", "/streams/order%231001/3")
    screenshot("event-dark", DESKTOP, "dark", "/streams/order%231001/3")
    screenshot("process", DESKTOP, "light", "/consumers/fulfillment")
    screenshot("trace", DESKTOP, "light", trace)
    screenshot("trace-phone", PHONE, "light", trace)
    # The browser reports what the Content-Security-Policy has blocked. Missing pages are expected.
    reports = [entry["message"] for entry in browser.get_log("browser")]
    unexpected = [text for text in reports if "favicon" not in text and "the server responded with" not in text]
    check(not unexpected, f"the browser reports {unexpected}")
finally:
    browser.quit()
