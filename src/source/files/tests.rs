use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

use super::*;
use crate::source::{Fetched, ReadState};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Row {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) note: Option<String>,
}

/// Quotes with line ends in them, both kinds of line end, empty lines, a last line without end.
const CSV: &str = "id,name,note\r\n1,ann,\"a \"\"b\"\"\nc,d\"\r\n2,bob,\n\n\r\n3,\"x\",y\n4,é,z";
const JSON: &str = "{\"id\":1,\"name\":\"ann\",\"note\":\"a\"}\r\n\n\
    {\"id\":2,\"name\":\"bob\"}\n  \r\n\
                    {\"id\":3,\"name\":\"\u{e9}\",\"note\":null,\"more\":[1]}";

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With a checksum, as the `zstd` command writes it.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The content as it is, and compressed, in one part and in two.
pub(super) fn packed(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    vec![
        ("", bytes.to_vec()),
        (".gz", gzip(bytes)),
        (".GZ", [gzip(head), gzip(tail)].concat()),
        (".zst", zstd(bytes)),
        (".Zst", [zstd(head), zstd(tail)].concat()),
    ]
}

pub(super) fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

fn pattern(path: &Path) -> String {
    path.display().to_string()
}

/// Everything from a position on: rows with positions, and where the reader stood after each read.
fn drain<S: Source>(
    source: &S,
    path: &str,
    resume: &Resume,
    limit: usize,
) -> (Vec<(u64, S::Item)>, Vec<u64>) {
    let mut reader = source.open(path, resume).unwrap();
    let (mut rows, mut stops) = (Vec::new(), vec![reader.position()]);
    loop {
        let mut fetched = Fetched::default();
        let state = reader.read(limit, &mut fetched).unwrap();
        assert!(fetched.len() <= limit && fetched.dead.is_empty() && fetched.skipped == 0);
        let (new, positions, _) = fetched.into_parts();
        rows.extend(new.into_iter().enumerate().map(|(i, row)| (positions.at(i), row)));
        stops.push(reader.position());
        if state == ReadState::End {
            return (rows, stops);
        }
    }
}

/// From every position that a reader ever stood at, and from each row's own, the rest follows.
fn resumes_everywhere<S: Source<Item = Row>>(source: &S, path: &str, expected: &[(u64, Row)]) {
    let check = source.open(path, &Resume::default()).unwrap().check();
    for limit in 1..=expected.len() + 1 {
        let (rows, stops) = drain(source, path, &Resume::default(), limit);
        assert_eq!(rows, expected, "{path}");
        let starts = rows.iter().map(|(start, _)| *start);
        for position in stops.into_iter().chain(starts) {
            let resume = Resume { position, check: check.clone() };
            let rest: Vec<_> =
                expected.iter().filter(|(start, _)| *start >= position).cloned().collect();
            assert_eq!(drain(source, path, &resume, limit).0, rest, "{path} from {position}");
        }
    }
}

fn row(id: u32, name: &str, note: Option<&str>) -> Row {
    Row { id, name: name.to_owned(), note: note.map(str::to_owned) }
}

fn at(content: &str, needle: &str) -> u64 {
    content.find(needle).unwrap() as u64
}

#[test]
fn csv_resumes_at_every_position() {
    let dir = tempfile::tempdir().unwrap();
    let expected = [
        (at(CSV, "1,ann"), row(1, "ann", Some("a \"b\"\nc,d"))),
        (at(CSV, "2,bob"), row(2, "bob", None)),
        (at(CSV, "3,\"x"), row(3, "x", Some("y"))),
        (at(CSV, "4,"), row(4, "é", Some("z"))),
    ];
    for (ending, bytes) in packed(CSV.as_bytes()) {
        let path = write(&dir, &format!("rows.csv{ending}"), &bytes);
        resumes_everywhere(&CsvFiles::<Row>::glob("*"), &path, &expected);
    }
}

#[test]
fn json_lines_resume_at_every_position() {
    let dir = tempfile::tempdir().unwrap();
    let expected = [
        (0, row(1, "ann", Some("a"))),
        (at(JSON, "{\"id\":2"), row(2, "bob", None)),
        (at(JSON, "{\"id\":3"), row(3, "é", None)),
    ];
    for (ending, bytes) in packed(JSON.as_bytes()) {
        let path = write(&dir, &format!("rows.jsonl{ending}"), &bytes);
        resumes_everywhere(&JsonLinesFiles::<Row>::glob("*"), &path, &expected);
    }
}

#[test]
fn rows_across_the_chunks_of_a_large_file_keep_their_positions() {
    let dir = tempfile::tempdir().unwrap();
    let (mut content, mut expected) = ("id,name,note\r\n".to_owned(), Vec::new());
    for id in 0..20_000 {
        expected.push((content.len() as u64, row(id, "n", Some("a\nb"))));
        content += &format!("{id},n,\"a\nb\"\r\n");
    }
    let source = CsvFiles::<Row>::glob("*");
    for (ending, bytes) in packed(content.as_bytes()) {
        let path = write(&dir, &format!("large.csv{ending}"), &bytes);
        let check = source.open(&path, &Resume::default()).unwrap().check();
        assert_eq!(drain(&source, &path, &Resume::default(), 999).0, expected);
        let resume = Resume { position: expected[12_345].0, check };
        assert_eq!(drain(&source, &path, &resume, 7_000).0, expected[12_345..]);
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let csv = write(&dir, "a.csv", b"\xef\xbb\xbfid,name,note\n1,a,\n");
    let rows = drain(&CsvFiles::<Row>::glob("*"), &csv, &Resume::default(), 9).0;
    assert_eq!(rows, [(16, row(1, "a", None))]);
    let json = write(&dir, "a.jsonl", b"\xef\xbb\xbf{\"id\":1,\"name\":\"a\"}\n");
    let rows = drain(&JsonLinesFiles::<Row>::glob("*"), &json, &Resume::default(), 9).0;
    assert_eq!(rows, [(0, row(1, "a", None))]);
}

#[test]
fn files_without_rows_end_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let csv = write(&dir, "a.csv", b"id,name,note");
    assert_eq!(drain(&CsvFiles::<Row>::glob("*"), &csv, &Resume::default(), 9).0, []);
    let json = write(&dir, "a.jsonl", b"");
    assert_eq!(drain(&JsonLinesFiles::<Row>::glob("*"), &json, &Resume::default(), 9).0, []);
}

#[test]
fn partitions_are_the_matching_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let expected = ["a.csv", "b.csv", "c.csv"].map(|name| write(&dir, name, b"id\n"));
    write(&dir, "d.txt", b"");
    std::fs::create_dir(dir.path().join("e.csv")).unwrap();
    let source = CsvFiles::<Row>::glob(pattern(&dir.path().join("*.csv")));
    assert_eq!(source.partitions().unwrap(), expected);
    assert!(source.describe().starts_with("CsvFiles(") && source.is_complete());
    assert_eq!(source.replay(), Replay::Exact);
}

#[test]
fn a_pattern_without_a_file_or_without_sense_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for missing in ["*.csv", "no/such/dir/*.csv", "exact.csv"] {
        let pattern = pattern(&dir.path().join(missing));
        let error = CsvFiles::<Row>::glob(pattern.clone()).partitions().err().unwrap().to_string();
        assert!(error.contains("no file matches") && error.contains(&pattern), "{error}");
    }
    let error = JsonLinesFiles::<Row>::glob("a/***").partitions().err().unwrap().to_string();
    assert!(error.contains("`a/***` is no file pattern"), "{error}");
}

#[test]
fn another_or_shorter_file_is_not_resumed_and_a_grown_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let source = JsonLinesFiles::<u32>::glob("*");
    for (name, size) in [("small.jsonl", 1_000), ("large.jsonl", 20_000)] {
        let content: String = (10_000..10_000 + size).map(|n| format!("{n}\n")).collect();
        let path = write(&dir, name, content.as_bytes());
        let mut reader = source.open(&path, &Resume::default()).unwrap();
        assert!(reader.check().starts_with("0:"), "nothing has been read of it yet");
        while reader.read(1_000, &mut Fetched::default()).unwrap() == ReadState::More {}
        let check = reader.check();
        assert_eq!(check.split_once(':').unwrap().0, content.len().min(65_536).to_string());
        let position = content.len() as u64;
        let resume = Resume { position, check };
        let refusal = |bytes: &[u8]| {
            std::fs::write(PathBuf::from(&path), bytes).unwrap();
            source.open(&path, &resume).err().map(|e| e.to_string())
        };
        assert_eq!(refusal((content.clone() + "1\n").as_bytes()), None);
        let mut changed = content.clone().into_bytes();
        changed[17] = b'0';
        for (bytes, why) in [
            (&changed[..], "bytes are others"),
            (
                &content.as_bytes()[..content.len() - 1],
                if size > 10_000 { "it ends at" } else { "it has" },
            ),
            (b"", "it has 0 bytes"),
        ] {
            let error = refusal(bytes).unwrap();
            assert!(error.contains("is not the file that was read before"), "{error}");
            assert!(error.contains(why) && error.contains(name), "{error}");
        }
    }
    let path = write(&dir, "a.jsonl.gz", &gzip(b"1\n2\n"));
    let resume = Resume { position: 5, check: String::new() };
    let error = source.open(&path, &resume).err().unwrap().to_string();
    assert!(error.contains("it ends at 4, and was read up to 5"), "{error}");
    let resume = Resume { position: 0, check: "nonsense".to_owned() };
    assert!(source.open(&path, &resume).err().unwrap().to_string().contains("no check"));
}
