import base64
import hashlib
import re

from attar.pages import make_page

HOSTILE = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>'\"&\u2028"


def make(**options):
    arguments = {"title": "a", "record": None} | options
    return make_page("pages", "shown.html", **arguments)


def test_text_is_escaped_and_data_cannot_end_its_element():
    page = make(title=HOSTILE, data={"name": HOSTILE}, scripts=["shown.js"])
    assert page.count("<script") == page.count("</script>") == 2  # the data and the module
    assert "<img" not in page
    assert "&lt;img" in page


def test_the_policy_forbids_all_but_the_pages_own_script():
    page = make(data={}, scripts=["shown.js", "shown.js"])
    script = re.search(r'<script type="module">(.*?)</script>', page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert script.count("shown = 1") == 2


def test_a_page_without_scripts_may_run_none():
    page = make()
    assert "<script" not in page
    assert "script-src" not in page
    assert "http" not in re.sub(r'http-equiv="', "", page)
