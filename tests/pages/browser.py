"""A browser for the tests: what it opens is watched, and nothing leaves the machine."""

from contextlib import contextmanager

TIMEOUT_MS = 60_000  # of a machine that does much else
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@contextmanager
def opened(browser, path, *, scheme="light", width=1280):
    """Open a file; at the end there was no error, no dialog and no request that leaves it."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(TIMEOUT_MS)
    problems = []

    def stop(route):
        problems.append(f"request: {route.request.url[:200]}")
        route.abort()

    def note_request(request):
        if request.url != path.as_uri() and not request.url.startswith("data:"):
            problems.append(f"request: {request.url[:200]}")

    def note_console(message):
        if message.type == "error":
            problems.append(f"console: {message.text[:200]}")

    def note_dialog(dialog):
        problems.append(f"dialog: {dialog.message[:200]}")
        dialog.accept()

    context.route(lambda url: not url.startswith(("file:", "data:")), stop)
    page = context.new_page()
    page.on("request", note_request)
    page.on("console", note_console)
    page.on("pageerror", lambda error: problems.append(f"error: {str(error)[:200]}"))
    page.on("dialog", note_dialog)
    page.goto(path.as_uri())
    try:
        yield page
        assert problems == []
    finally:
        context.close()


def serious_violations(page):
    """What axe-core finds that keeps people out."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        (each["id"], [node["html"][:120] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
