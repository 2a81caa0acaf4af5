"""Fetching from a real local server: whole, wrong, and cut off in the middle."""

import hashlib
import http.server
import io
import threading

import numpy as np
import pytest

from hemaest.datasets import fetch_bloodmnist


def archive():
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28, 3)).astype(np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 8, (n, 1)).astype(np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue(), arrays


CONTENT, ARRAYS = archive()
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; the first `cut` requests are dropped in the middle of it."""

    cut = 0
    requests = 0
    tells_length = True


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        if self.path != "/files/bloodmnist.npz":
            self.send_error(404)
            return
        self.send_response(200)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.server.requests <= self.server.cut:
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            self.wfile.flush()
            self.connection.shutdown(2)
            return
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    running = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def address(server):
    return f"http://127.0.0.1:{server.server_port}/files/"


def test_the_official_split_is_kept(server, tmp_path):
    bunch = fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path)
    assert bunch.images.shape == (10, 28, 28, 3)
    assert bunch.subset.tolist() == ["train"] * 5 + ["val"] * 2 + ["test"] * 3
    test = fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path, subset="test")
    np.testing.assert_array_equal(test.images, ARRAYS["test_images"])
    np.testing.assert_array_equal(test.target, ARRAYS["test_labels"].ravel())
    assert server.requests == 1  # the second call read the kept file


def test_a_download_cut_off_starts_again(server, tmp_path):
    server.cut = 1
    bunch = fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path)
    assert len(bunch.images) == 10 and server.requests == 2
    assert [p.name for p in tmp_path.iterdir()] == ["bloodmnist.npz"]


@pytest.mark.slow
def test_nothing_half_written_stays(server, tmp_path):
    server.cut = 99
    with pytest.raises(ConnectionError, match="could not be fetched .* put the file into"):
        fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_wrong_checksum_is_refused_and_not_kept(server, tmp_path):
    with pytest.raises(ValueError, match="checksum is not the expected one"):
        fetch_bloodmnist(source=address(server), data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_is_not_there_and_a_server_that_is_not(server, tmp_path):
    with pytest.raises(ConnectionError, match="404"):
        fetch_bloodmnist(source=address(server), size=64, data_home=tmp_path)
    with pytest.raises(ConnectionError, match=r"bloodmnist\.npz could not be fetched"):
        fetch_bloodmnist(source="http://127.0.0.1:9/", data_home=tmp_path)


def test_sizes_and_parts_are_named(tmp_path):
    with pytest.raises(ValueError, match="28, 64, 128, 224"):
        fetch_bloodmnist(size=100, data_home=tmp_path)
    with pytest.raises(ValueError, match="'train', 'val', 'test'"):
        fetch_bloodmnist(subset="validation", data_home=tmp_path)


@pytest.mark.slow
def test_a_download_cut_off_without_a_length_is_distinguished_from_a_wrong_file(server, tmp_path):
    server.cut, server.tells_length = 99, False
    with pytest.raises(ValueError, match="the transfer was cut off, so try again; or .* md5="):
        fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.cut = server.requests + 1
    assert len(fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path).images) == 10


@pytest.mark.parametrize("source", ["file:///mirror", "/mirror/files", "zenodo.org/x", ""])
def test_an_address_that_is_none_is_refused_at_once(source, tmp_path):
    with pytest.raises(ValueError, match=r"is no address; it must begin with http or https://"):
        fetch_bloodmnist(source=source, data_home=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NotADirectoryError, match="data_home=.*file is a file; it must be a folder"):
        fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path / "file")
    with pytest.raises(
        OSError, match=r"could not be kept in data_home=.*file.below.*Give data_home="
    ):
        fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path / "file" / "below")
    assert server.requests == 0


def test_a_checksum_may_be_written_in_capitals(server, tmp_path):
    fetch_bloodmnist(source=address(server), md5=MD5.upper(), data_home=tmp_path)
    assert server.requests == 1


def test_names_of_classes_belong_to_the_bunch(server, tmp_path):
    bunch = fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path)
    bunch.class_names[0] = "changed"
    again = fetch_bloodmnist(source=address(server), md5=MD5, data_home=tmp_path)
    assert again.class_names[0] == "basophil"
