"""A page of pictures side by side: one file, whole, small and safe."""

import numpy as np
import pytest
from PIL import Image

from iif_d2.errors import ConfigError, DataError
from iif_d2.report import pictures_page

from .browser import open_browser, serious_violations, show
from .test_report import Reader

COLUMNS = ["Ground truth", "Softmax", "IIF"]
TABLE = [["method", "AP", "APr"], ["Softmax", 29.16, 0.67], ["IIF", 42.52, float("nan")]]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Two rows of files, one of them wider than the page shows it."""
    folder = tmp_path_factory.mktemp("gallery")
    rng, rows = np.random.default_rng(0), []
    for row in range(2):
        files = []
        for column, width in enumerate((480, 480, 900)):
            pixels = rng.integers(0, 255, (48, width // 10, 3), dtype=np.uint8)
            path = folder / f"{row}_{column}.png"
            Image.fromarray(pixels).resize((width, 480)).save(path)
            files.append(str(path))
        rows.append(files)
    path = folder / "new" / "pictures.html"
    said = pictures_page(
        str(path), "IIF & <b>rare</b>", COLUMNS, rows, captions=["Image 1", "Image 2"], table=TABLE,
        paragraphs=["What it <i>means</i>."], links=[("both runs' report", "report.html")],
        commands=[("Your own data:", "iif-d2 train --train a.json --images DIR")],
    )  # fmt: skip
    assert said.startswith(f"{path} (0.") and "2 rows" in said
    return path


def test_it_is_one_small_safe_file(gallery):
    text = gallery.read_text()
    reader = Reader(text)
    assert len(text) < 400_000
    assert "IIF & <b>rare</b>" in reader.text and "What it <i>means</i>." in reader.text
    assert not reader.of("b") and not reader.of("i") and len(reader.of("script")) == 1
    links = [a.get(k) for _, a in reader.tags for k in ("src", "href") if a.get(k)]
    assert {link for link in links if not link.startswith(("#", "data:"))} == {"report.html"}
    pictures = reader.of("img")
    assert [picture["alt"] for picture in pictures[:3]] == [f"{c}: Image 1" for c in COLUMNS]
    assert [picture["width"] for picture in pictures[:3]] == ["480"] * 3
    assert pictures[2]["height"] == "256"
    for words in ("29.2", "0.7", "42.5", "–", "Your own data:", "iif-d2 train"):
        assert words in reader.text


def test_pixels_and_words_of_ones_own_and_no_table(tmp_path):
    path = tmp_path / "p.html"
    pixels = np.zeros((9, 9, 3), np.uint8)
    pictures_page(str(path), "t", ["one"], [[pixels]], alts=[["a black square"]])
    reader = Reader(path.read_text())
    assert [picture["alt"] for picture in reader.of("img")] == ["a black square"]
    assert not reader.of("table")


def test_rows_that_do_not_fit_and_lost_pictures_are_sentences(tmp_path):
    path = str(tmp_path / "p.html")
    with pytest.raises(ConfigError, match="a row has 1 pictures for 2 columns"):
        pictures_page(path, "t", ["a", "b"], [["x.png"]])
    with pytest.raises(ConfigError, match="2 captions for 1 rows"):
        pictures_page(path, "t", ["a"], [["x.png"]], captions=["1", "2"])
    with pytest.raises(DataError, match=r"x\.png"):
        pictures_page(path, "t", ["a"], [[str(tmp_path / "x.png")]])
    assert not (tmp_path / "p.html").exists()


def test_it_looks_right_on_a_phone_and_in_the_dark(gallery, tmp_path):
    driver = open_browser(str(tmp_path))
    try:
        for dark in (False, True):
            show(driver, 390, dark=dark)
            driver.get(gallery.resolve().as_uri())
            root = "return document.documentElement."
            assert driver.execute_script(root + "scrollWidth") <= 390
            assert (driver.execute_script(root + "dataset.theme") == "dark") == dark
            tops = driver.execute_script(
                "return [...document.querySelectorAll('img')].map((i) => i.getBoundingClientRect().top)"
            )
            assert tops == sorted(tops) and len(set(tops)) == 6  # one below the other
            assert serious_violations(driver) == []
        show(driver, 1280)
        driver.refresh()
        tops = driver.execute_script(
            "return [...document.querySelectorAll('figure')].map((i) => i.getBoundingClientRect().top)"
        )
        assert len(set(tops)) == 2  # three in a row
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
