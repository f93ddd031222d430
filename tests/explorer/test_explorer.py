"""The explorer in a browser: its numbers are NumPy's, its networks answer as Python's."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from pages.browser import opened, serious_violations

from attar.data import TransferSet
from attar.errors import ShapeError
from attar.explorer import make_explorer
from explorer.explorations import explore_sets, with_class_names

HOSTILE = (
    "<script>window.harmed = 1; alert(1)</script>",
    "\"><img src=x onerror='window.harmed = 1'>",
    "</script><style>body { display: none }</style>",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "x" * 10_000,
    "{{ 7 * 7 }}${1}`",
    "javascript:alert(1)",
    "&lt;b&gt;",
    "'",
    "",
)


@pytest.fixture(scope="module")
def exploration(few_digits):
    return explore_sets({"test": few_digits.test, "transfer": few_digits.train})


@pytest.fixture(scope="module")
def path(exploration, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    path.write_text(make_explorer(exploration), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tab(browser, path):
    with opened(browser, path) as page:
        yield page


@pytest.fixture
def page(tab, path):
    """The page as it is at first."""
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    return tab


def softmax(logits, temperature):
    exponentials = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
    return exponentials / exponentials.sum(-1, keepdims=True)


def numbers(texts):
    return np.array([float(text.replace("−", "-")) for text in texts])


def column(page, table, place):
    return numbers(page.locator(f"{table} tbody td:nth-of-type({place})").all_inner_texts())


def fact(page, name):
    text = page.locator(f"#example-facts div:has-text('{name}') dd").inner_text()
    return float(text.split()[0].replace("−", "-"))


def logits_of(exploration, name, example):
    return exploration.sets[0].logits[name][example].double().numpy()


def shown_example(page):
    return int(page.locator("#example-title").inner_text().split()[-1])


def assert_numbers_are_numpys(page, exploration, temperature):
    example = shown_example(page)
    v, z = (logits_of(exploration, name, example) for name in ("teacher", "student"))
    p, q = softmax(v, temperature), softmax(z, temperature)
    close = {"rtol": 0.06, "atol": 6e-5}  # four decimals, or two digits of what is tiny
    np.testing.assert_allclose(column(page, "#example-table", 1), p, **close)
    np.testing.assert_allclose(column(page, "#example-table", 2), q, **close)
    hard = np.eye(10)[exploration.sets[0].examples.hard_targets[example]]
    np.testing.assert_array_equal(column(page, "#example-table", 3), hard)
    np.testing.assert_allclose(column(page, "#example-table", 4), (q - p) / temperature, **close)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert fact(page, "Entropy, teacher") == pytest.approx(-(p * np.log(p)).sum(), abs=1e-3)
        assert fact(page, "KL") == pytest.approx((p * np.log(p / q)).sum(), rel=0.06, abs=1e-3)
    length = np.linalg.norm((q - p) / temperature)
    assert fact(page, "Length") == pytest.approx(length, rel=0.06, abs=1e-4)


def test_the_slider_changes_the_numbers_to_those_of_numpy(page, exploration):
    assert page.locator("#temperature-number").input_value() == "4"
    assert_numbers_are_numpys(page, exploration, 4.0)
    slider = page.locator("#temperature-slider")
    slider.focus()
    for key, expected in (("End", 30.0), ("ArrowLeft", 29.8), ("Home", 0.1), ("PageUp", 0.177)):
        page.keyboard.press(key)
        temperature = float(page.locator("#temperature-number").input_value())
        assert temperature == pytest.approx(expected, rel=0.01)
        assert slider.get_attribute("aria-valuetext") == f"T = {temperature:g}"
        assert_numbers_are_numpys(page, exploration, temperature)
    box = slider.bounding_box()  # by mouse, to the middle: logarithmic
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    temperature = float(page.locator("#temperature-number").input_value())
    assert temperature == pytest.approx(math.sqrt(0.1 * 30), rel=0.05)
    assert_numbers_are_numpys(page, exploration, temperature)
    page.locator("#temperature-number").fill("2.5")
    assert_numbers_are_numpys(page, exploration, 2.5)


def test_six_logits_are_dragged_by_keyboard_and_mouse(page):
    def check():
        sliders = page.locator("#demonstration input")
        logits = np.array([float(slider.input_value()) for slider in sliders.all()])
        shown = page.locator("#demonstration .logit-row output:last-child").all_inner_texts()
        np.testing.assert_allclose(numbers(shown), softmax(logits, 4.0), atol=6e-5)
        return logits

    before = check()
    assert len(before) == 6
    second = page.get_by_label("wolf")
    second.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    np.testing.assert_allclose(check() - before, [0, 0.3, 0, 0, 0, 0], atol=1e-9)
    box = second.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    assert check()[1] < -14
    page.get_by_role("button", name="Begin again").click()
    np.testing.assert_array_equal(check(), before)


def test_the_interesting_ones_are_found(page, exploration):
    targets = exploration.sets[0].examples.hard_targets.numpy()
    teacher, student = (
        exploration.sets[0].logits[name].argmax(1).numpy() for name in ("teacher", "student")
    )
    expected = {
        "disagree": teacher != student,
        "student": (student == targets) & (teacher != targets),
        "teacher": (teacher == targets) & (student != targets),
        "neither": (teacher != targets) & (student != targets),
    }
    assert sum(fits.any() for fits in expected.values()) > 2
    for show, fits in expected.items():
        page.locator("#find-show").select_option(show)
        assert page.locator("#found").inner_text() == f"{fits.sum()} of 100 examples"
        if fits.any():
            assert fits[shown_example(page)]


def test_examples_are_sorted_by_what_makes_them_interesting(page, exploration):
    v = exploration.sets[0].logits["teacher"].double().numpy()
    targets = exploration.sets[0].examples.hard_targets.numpy()
    p = softmax(v, 4.0)
    page.locator("#find-order").select_option("entropy")
    assert shown_example(page) == int((-(p * np.log(p)).sum(1)).argmax())
    page.locator("#find-class").select_option("3")
    page.locator("#find-like").select_option("5")
    assert page.locator("#found").inner_text() == "10 of 100 examples"
    of_three = np.flatnonzero(targets == 3)
    assert shown_example(page) == of_three[p[of_three, 5].argmax()]
    page.locator("#find-set").select_option("1")
    assert "of 300 examples" in page.locator("#found").inner_text()
    page.locator("#thumbnails button").nth(1).press("Enter")
    assert page.locator("#thumbnails button").nth(1).get_attribute("aria-pressed") == "true"


def test_the_heat_map_is_the_mean_soft_target_and_leads_to_its_examples(page, exploration):
    p = softmax(exploration.sets[0].logits["teacher"].double().numpy(), 4.0)
    targets = exploration.sets[0].examples.hard_targets.numpy()
    means = np.stack([p[targets == target].mean(0) for target in range(10)])
    shown = numbers(page.locator("#heat button").all_inner_texts()).reshape(10, 10)
    np.testing.assert_allclose(shown, 100 * means, rtol=0.06, atol=0.006)
    page.locator("#heat button").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    assert page.locator("#find-class").input_value() == "2"
    assert page.locator("#find-like").input_value() == "3"
    of_two = np.flatnonzero(targets == 2)
    assert shown_example(page) == of_two[p[of_two, 3].argmax()]


def pixels_seen(page):
    """The pixels that the page gives to its networks, as a network in Python takes them."""
    read = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data)"
    return torch.tensor(page.locator("#seen").evaluate(read))[::4].float().reshape(1, 28, 28) / 255


def assert_answered_as_in_python(page, exploration):
    pixels = pixels_seen(page)
    assert pixels.sum() > 5
    teacher, student = exploration.teacher.network, exploration.students[0].network
    with torch.inference_mode():
        expected = [network(pixels)[0].numpy() for network in (teacher, student)]
    for place, logits in zip((1, 3), expected, strict=True):
        np.testing.assert_allclose(column(page, "#drawing-table", place), logits, atol=1e-3)
        q = softmax(logits.astype(float), 4.0)
        np.testing.assert_allclose(column(page, "#drawing-table", place + 1), q, rtol=0.06)
    answer = int(expected[1].argmax())
    assert re.search(
        rf"student says \u2068{answer}\u2069", page.locator("#drawing-says").inner_text()
    )


def test_a_digit_drawn_by_mouse_is_answered_as_python_answers_it(page, exploration):
    board = page.locator("#board")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 40)
    page.mouse.down()
    for x, y in ((170, 40), (120, 130), (90, 210)):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=4)
    page.mouse.up()
    assert_answered_as_in_python(page, exploration)
    centered = pixels_seen(page)
    page.locator("#board-center").uncheck()
    assert not torch.equal(pixels_seen(page), centered)
    assert_answered_as_in_python(page, exploration)


def test_a_digit_drawn_by_keyboard_is_answered_and_emptied(page, exploration):
    page.locator("#board").focus()
    for key in [*["ArrowLeft"] * 3, *["Shift+ArrowDown"] * 9, *["Shift+ArrowRight"] * 5, "Space"]:
        page.keyboard.press(key)
    assert_answered_as_in_python(page, exploration)
    page.keyboard.press("Delete")
    assert pixels_seen(page).sum() == 0
    assert page.locator("#drawing-says").inner_text() == "Draw something on the board."


def test_an_example_is_put_on_the_board_as_it_is(page, exploration):
    example = shown_example(page)
    page.get_by_role("button", name="Put it on the drawing board").click()
    expected = exploration.sets[0].examples.batch(torch.tensor([example])).inputs
    torch.testing.assert_close(pixels_seen(page), expected)
    np.testing.assert_allclose(
        column(page, "#drawing-table", 3), logits_of(exploration, "student", example), atol=1e-3
    )


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_nothing_keeps_people_out_and_nothing_sticks_out(browser, path, scheme, width):
    with opened(browser, path, scheme=scheme, width=width) as page:
        page.wait_for_selector("html[data-ready]")
        assert serious_violations(page) == []
        assert page.evaluate("() => document.documentElement.scrollWidth") == width


def test_hostile_names_are_text(browser, few_digits, tmp_path):
    sets = {HOSTILE[0]: with_class_names(few_digits.test, HOSTILE)}
    names = (HOSTILE[1], HOSTILE[3], HOSTILE[4])
    path = tmp_path / "'\"<b>&#.html"
    path.write_text(make_explorer(explore_sets(sets, title=HOSTILE[2], names=names)), "utf-8")
    with opened(browser, path, width=390) as page:
        page.wait_for_selector("html[data-ready]")
        state = "() => [window.harmed, document.scripts.length, document.images.length]"
        assert page.evaluate(state) == [None, 2, 0]
        assert page.locator("body").is_visible()
        rows = page.locator("#example-table tbody th").all_inner_texts()
        assert rows[0].startswith("<script>window.harmed = 1")
        assert rows[5] == HOSTILE[5]
        assert max(map(len, rows)) <= 40
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390


def test_sets_of_numbers_without_hard_targets_and_answers_that_are_none_are_shown(
    browser, tmp_path
):
    numbers_ = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    exploration = explore_sets({"test": TransferSet(numbers_, classes=15)})
    exploration.sets[0].logits["teacher"][3] = math.nan
    path = tmp_path / "explorer.html"
    path.write_text(make_explorer(exploration), "utf-8")
    with opened(browser, path) as page:
        page.wait_for_selector("html[data-ready]")
        assert shown_example(page) == 3  # what gives no number comes first
        assert "NaN" in page.locator("#example-table").inner_text()
        assert "and 3 classes that are less likely" in page.locator("#example-table").inner_text()
        assert "no gray images" in page.locator("#drawing").inner_text()
        page.locator("#find-show").select_option("teacher")
        assert page.locator("#found").inner_text() == "0 of 40 examples"


def test_fifty_thousand_classes_need_no_table_of_all_by_all(browser, tmp_path):
    inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    test_set = TransferSet(inputs, torch.tensor([1, 1, 2, 40_000]), classes=50_000)
    path = tmp_path / "explorer.html"
    path.write_text(make_explorer(explore_sets({"test": test_set})), "utf-8")
    with opened(browser, path) as page:
        page.wait_for_selector("html[data-ready]")
        assert "30 of 50000 classes" in page.locator("#resemblance-note").inner_text()
        assert page.locator("#heat button").first.inner_text() == "–"  # class 0 has no example


def test_a_picture_of_an_input_is_shown_with_its_caption(browser, tmp_path):
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    exploration = explore_sets({"test": TransferSet(inputs, torch.arange(40) % 3, classes=3)})
    pictures = torch.zeros(40, 5, 7, 3, dtype=torch.uint8)
    pictures[:, 1, 2] = torch.tensor([10, 20, 30], dtype=torch.uint8)
    shown = replace(exploration.sets[0], pictures=pictures, caption="<b>a window</b>")
    path = tmp_path / "explorer.html"
    path.write_text(make_explorer(replace(exploration, sets=(shown,))), "utf-8")
    with opened(browser, path) as page:
        page.wait_for_selector("html[data-ready]")
        assert page.locator("#example-caption").inner_text() == "<b>a window</b>"
        read = "canvas => Array.from(canvas.getContext('2d').getImageData(2, 1, 1, 1).data)"
        assert page.locator("#example-picture canvas").evaluate(read) == [10, 20, 30, 255]
        assert page.locator("#thumbnails button").first.get_attribute("aria-pressed") == "true"


def test_one_example_and_identical_networks_are_shown(browser, few_digits, tmp_path):
    exploration = explore_sets({"test": few_digits.test.subset(torch.tensor([7]))})
    shown = exploration.sets[0]
    same = dict.fromkeys(shown.logits, shown.logits["teacher"])
    exploration = replace(exploration, sets=(replace(shown, logits=same),))
    path = tmp_path / "explorer.html"
    path.write_text(make_explorer(exploration), "utf-8")
    with opened(browser, path) as page:
        page.wait_for_selector("html[data-ready]")
        assert page.locator("#found").inner_text() == "1 of 1 examples"
        assert (fact(page, "KL"), fact(page, "Length")) == (0, 0)
        assert "no numbers to draw" in page.locator("#curve").inner_text()
        absent = page.locator("#heat button").first  # class 0 has no example
        assert absent.inner_text() == "–"
        page.locator("#find-show").select_option("disagree")
        assert page.locator("#found").inner_text() == "0 of 1 examples"


def test_pictures_of_another_number_or_kind_are_refused(exploration):
    for wrong in (torch.zeros(99, 5, 7, 3, dtype=torch.uint8), torch.zeros(100, 5, 7, 3)):
        with pytest.raises(ShapeError, match="expected pictures of bytes"):
            replace(exploration, sets=(replace(exploration.sets[0], pictures=wrong),))


def test_without_room_for_the_student_the_page_says_so(exploration):
    page = make_explorer(exploration, room=200_000)
    assert "Not here: the student is too large for a page." in page
