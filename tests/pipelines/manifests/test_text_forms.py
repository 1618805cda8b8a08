"""Quotes in delimited text, lists of paths, JSON in any layout, and columns under other names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import UsageError
from pipelines.manifests.manifest import read_manifest
from tests.pipelines.manifests.samples import read, write

TSV = 'path\tsentence\na.mp3\t"Hello\nb.mp3\tworld" he said\nc.mp3\t"quoted"\n'


def test_a_quote_is_an_ordinary_character_in_tsv(tmp_path: Path) -> None:
    found = read(write(tmp_path, TSV, "train.tsv"))
    assert [one.metadata["sentence"] for one in found] == ['"Hello', 'world" he said', '"quoted"']
    found = read(write(tmp_path, TSV.replace("\n", "\r\n"), "train.tsv"))
    assert [one.metadata["sentence"] for one in found] == ['"Hello', 'world" he said', '"quoted"']


def test_tsv_with_a_quoted_header_is_unquoted(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path, '"path"\t"text"\n"a.mp3"\t"say ""hi"""\n', "m.tsv"))
    assert (found.id, found.text) == ("a.mp3", 'say "hi"')


@pytest.mark.parametrize("cell", ['"Hello\tthere"', '"two\nlines"'])
def test_a_quoted_cell_with_a_tab_or_a_line_break_is_refused_in_tsv(cell: str, tmp_path: Path) -> None:
    data = f'"path"\t"text"\n"a.mp3"\t"x"\n"b.mp3"\t{cell}\n'
    with pytest.raises(UsageError, match=r"line 3: a quoted cell contains a tab or a line break"):
        read(write(tmp_path, data, "m.tsv"))


SWALLOWED = [
    'audio,text\na.wav,ok\nb.wav,"Hello\nc.wav,world"\nd.wav,x\n',
    'text,audio\nok,a.wav\n"Hello,b.wav\nthere",c.wav\n',
    'audio;text\na.xyz;ok\nb.xyz;"Hello\nc.xyz;world"\n',
    'audio,text\na.wav,ok\nb.wav,"Hello\nx,y\nc.wav,world"\n',
]


@pytest.mark.parametrize("data", SWALLOWED)
def test_a_quoted_cell_that_swallows_a_row_is_refused_with_its_line(data: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 3: a quoted cell contains another row"):
        read(write(tmp_path, data, "m.csv"))


def test_texts_of_several_lines_are_read_from_csv(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path, 'audio,text\na.wav,"one, two\nthree, four\n\nfive"\n', "m.csv"))
    assert found.text == "one, two\nthree, four\n\nfive"


@pytest.mark.parametrize("name", ["files.txt", "files.lst", "files.m3u", "no_suffix"])
def test_a_list_of_paths_is_read(name: str, tmp_path: Path) -> None:
    found = read(write(tmp_path, "sub/a b.wav\n\ns3://b/c,d.mp3\n/x/e.flac\r\n", name))
    assert [one.id for one in found] == ["sub/a b.wav", "s3://b/c,d.mp3", "/x/e.flac"]
    assert found[0].audio == str(tmp_path / "sub/a b.wav")


def test_a_text_with_a_header_is_a_table(tmp_path: Path) -> None:
    (found,) = read(write(tmp_path, "path\ttext\na.wav\thello\n", "m.txt"))
    assert found.text == "hello"


def test_a_playlist_is_read_without_its_comments(tmp_path: Path) -> None:
    data = "#EXTM3U\n#EXTINF:12,Some title\na.mp3\n#EXTINF:1,\nfile:///x/b.mp3\n"
    found = read(write(tmp_path, data, "list.m3u8"))
    assert [one.audio for one in found] == [str(tmp_path / "a.mp3"), "/x/b.mp3"]
    with pytest.raises(UsageError, match=r"line 2: an HLS playlist"):
        read(write(tmp_path, "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:4,\n0.ts\n", "hls.m3u8"))


def test_an_scp_has_ids(tmp_path: Path) -> None:
    found = read(write(tmp_path, "r1 a b.wav\nr2\t/x/c.flac\n", "wav.scp"))
    assert [(one.id, one.audio) for one in found] == [("r1", str(tmp_path / "a b.wav")), ("r2", "/x/c.flac")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("r2 sph2pipe -f wav x.sph |", "line 2: 'r2' is the output of a command"),
        ("r2 raw.ark:1234", "line 2: 'r2' is in an archive of Kaldi's"),
        ("r2", "line 2: only an id"),
    ],
)
def test_what_is_no_file_is_refused_in_an_scp(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        read(write(tmp_path, f"r1 a.wav\n{line}\n", "wav.scp"))


ENTRIES = [{"audio": "a.wav", "n": [1, {"x": 2}]}, {"audio": "b.wav"}]
LAYOUTS = {
    "one object over many lines": (json.dumps(ENTRIES[0], indent=2), 1),
    "objects over many lines": ("\n".join(json.dumps(one, indent=2) for one in ENTRIES), 2),
    "a line, then an object over many": (json.dumps(ENTRIES[0]) + "\n" + json.dumps(ENTRIES[1], indent=1), 2),
    "an object with one list": (json.dumps({"version": 1, "data": ENTRIES}), 2),
    "an object with one list over many lines": (json.dumps({"version": 1, "data": ENTRIES}, indent=4), 2),
    "another name of the list": (json.dumps({"samples": ENTRIES}), 2),
    "a list in `audio`": (json.dumps({"audio": ENTRIES}), 2),
    "several lists": (json.dumps({"data": ENTRIES, "speakers": [{"name": "x"}]}), 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_json_is_read_in_any_layout(layout: str, tmp_path: Path) -> None:
    data, count = LAYOUTS[layout]
    found = read(write(tmp_path, data, "m.json"))
    assert [one.id for one in found] == ["a.wav", "b.wav"][:count]
    assert found[0].metadata == {"n": [1, {"x": 2}]}


def test_an_object_that_is_not_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"m\.json: line 3: not JSON"):
        read(write(tmp_path, '{"audio": "a"}\n\n{"audio":\n "b"\n', "m.json"))


def test_columns_may_have_any_names(tmp_path: Path) -> None:
    names = {"audio": "file", "id": "Key", "text": "sentence"}
    for data, name in (
        ("file,Key,sentence,audio,text\nx.wav,k,hi,other,note\n", "m.csv"),
        ("file\tKey\tsentence\taudio\ttext\nx.wav\tk\thi\tother\tnote\n", "m.tsv"),
        ('{"file": "x.wav", "Key": "k", "sentence": "hi", "audio": "other", "text": "note"}\n', "m.jsonl"),
    ):
        (found,) = read_manifest(str(write(tmp_path, data, name)), names)
        assert (found.id, found.audio, found.text) == ("k", str(tmp_path / "x.wav"), "hi")
        assert found.metadata == {"audio": "other", "text": "note"}


def test_a_name_that_no_row_has_is_refused(tmp_path: Path) -> None:
    path = str(write(tmp_path, '{"file": "x.wav"}\n'))
    with pytest.raises(UsageError, match=r"no row has the column of --columns id=key"):
        list(read_manifest(path, {"audio": "file", "id": "key"}))
    with pytest.raises(UsageError, match=r"no column .*--columns audio=NAME"):
        read(path)


def test_the_metadata_of_an_audiofolder_is_read(tmp_path: Path) -> None:
    for data, name in (
        ("file_name,transcription\ntrain/a.wav,hi\n", "metadata.csv"),
        ('{"file_name": "train/a.wav", "transcription": "hi"}\n', "metadata.jsonl"),
    ):
        (found,) = read(write(tmp_path, data, name))
        assert (found.audio, found.metadata) == (str(tmp_path / "train/a.wav"), {"transcription": "hi"})
