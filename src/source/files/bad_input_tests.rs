use std::error::Error as _;

use super::tests::{Row, gzip, packed, write};
use super::*;
use crate::error::ErrorKind;
use crate::source::{DeadLetter, Fetched, ReadState};

/// Reads everything, one row at a time, from a position on.
fn read_all<S: Source>(source: &S, path: &str, from: u64) -> Result<Fetched<S::Item>, Error> {
    let resume = Resume { position: from, check: String::new() };
    let mut reader = source.open(path, &resume)?;
    let mut fetched = Fetched::default();
    while reader.read(1, &mut fetched)? == ReadState::More {}
    Ok(fetched)
}

fn csv(policy: Undecodable) -> CsvFiles<Row> {
    CsvFiles::glob("*").undecodable(policy)
}

fn json(policy: Undecodable) -> JsonLinesFiles<Row> {
    JsonLinesFiles::glob("*").undecodable(policy)
}

/// What all three policies make of a file with one bad record, compressed or not, read from the
/// start and from the bad record on.
fn one_bad_record<S: Source<Item = Row>>(
    source: impl Fn(Undecodable) -> S,
    content: &[u8],
    raw: &[u8],
    line: u64,
    why: &str,
    good: &[u32],
) {
    let dir = tempfile::tempdir().unwrap();
    let start = content.windows(raw.len()).position(|window| window == raw).unwrap() as u64;
    for (ending, bytes) in packed(content) {
        let path = write(&dir, &format!("bad{ending}"), &bytes);
        for from in [0, start] {
            let error = read_all(&source(Undecodable::Fail), &path, from).unwrap_err();
            assert_eq!((error.kind(), error.position()), (ErrorKind::Input, Some(start)));
            let text = error.to_string();
            assert!(text.contains(&format!("line {line}: ")) && text.contains(why), "{text}");

            let letters = read_all(&source(Undecodable::DeadLetter), &path, from).unwrap();
            let [DeadLetter { raw: dead, error, partition, position }] = &letters.dead[..] else {
                panic!("{letters:?}");
            };
            assert_eq!(String::from_utf8_lossy(dead), String::from_utf8_lossy(raw));
            assert_eq!((partition, *position), (&path, start));
            assert!(text.ends_with(error.as_str()), "{text}, {error}");
        }
        let skipped = read_all(&source(Undecodable::Skip), &path, 0).unwrap();
        assert_eq!((skipped.skipped, skipped.len()), (1, good.len() + 1));
        assert_eq!(skipped.rows.iter().map(|row| row.id).collect::<Vec<_>>(), good);
    }
}

#[test]
fn csv_with_a_bad_row() {
    let check = |content: &[u8], raw: &[u8], line, why: &str, good: &[u32]| {
        one_bad_record(csv, content, raw, line, why, good);
    };
    let few = b"id,name,note\n1,a,b\n2,c\n3,d,e\n";
    check(few, b"2,c", 3, "2 fields, where the header has 3", &[1, 3]);
    let many = b"id,name,note\r\n1,\"a\nb\",c\r\n\r\n\r\n2,\"x\ny\",d,e\r\n3,f,g";
    check(many, b"2,\"x\ny\",d,e", 6, "4 fields, where the header has 3", &[1, 3]);
    let wrong_type = b"id,name,note\n1,a,b\n-5,c,d\n3,d,e\n";
    check(wrong_type, b"-5,c,d", 3, "column `id`: invalid digit", &[1, 3]);
    let not_utf8 = b"id,name,note\n1,a,b\n2,c,\xff\xfe\n3,d,e\n";
    check(not_utf8, b"2,c,\xff\xfe", 3, "invalid UTF-8 in column `note`", &[1, 3]);
    let last = b"id,name,note\n1,a,b\nx";
    check(last, b"x", 3, "1 fields", &[1]);
    let open_quote = b"id,name,note\n1,a,\"b \"\"c\"\"\"\n2,c,\"d\n3,d,e\n";
    check(open_quote, b"2,c,\"d\n3,d,e", 3, "ends within quotes", &[1]);
}

#[test]
fn a_quote_at_the_very_end_is_not_taken_for_an_open_one() {
    let dir = tempfile::tempdir().unwrap();
    for last in ["2,c,\"d\"", "2,c,\"d\"\"\"", "2,c\"d,e\"", "2,\"\",\"\""] {
        let path = write(&dir, "a.csv", format!("id,name,note\n1,a,b\n{last}").as_bytes());
        assert_eq!(read_all(&csv(Undecodable::Fail), &path, 0).unwrap().rows.len(), 2, "{last}");
    }
}

#[test]
fn json_with_a_bad_line() {
    let good = |id: u32| format!("{{\"id\":{id},\"name\":\"a\"}}");
    let check = |bad: &[u8], end: &[u8], why: &str| {
        let content = [good(1).as_bytes(), b"\n\r\n", bad, end, good(3).as_bytes()].concat();
        one_bad_record(json, &content, bad, 3, why, &[1, 3]);
    };
    check(b"{\"id\":2,", b"\n", "EOF while parsing");
    check(b"{\"id\":\"two\",\"name\":\"a\"}", b"\r\n", "invalid type: string \"two\"");
    check(b"{\"id\":2}", b"\n", "missing field `name`");
    check(b"{\"id\":2,\"name\":\"\xff\"}", b"\r\n", "invalid UTF-8");
    check(b"no json", b"\n", "column 2: expected");
    check(b"{\"id\":2,\"name\":\"a\"} {}", b"\n", "trailing characters");
    let last = format!("{}\n[", good(1));
    one_bad_record(json, last.as_bytes(), b"[", 2, "EOF while parsing", &[1]);
}

#[test]
fn many_bad_rows_are_letters_with_their_own_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut content = "id,name,note\r\n".to_owned();
    let mut expected = Vec::new();
    for line in 2..=9_001_u64 {
        let raw = if line % 3 == 0 { format!("{line},bad") } else { format!("{line},a,b") };
        if line % 3 == 0 {
            expected.push((content.len() as u64, raw.clone(), line));
        }
        content += &(raw + "\r\n");
    }
    let path = write(&dir, "many.csv.gz", &gzip(content.as_bytes()));
    for from in [0, expected[1_000].0] {
        let letters = read_all(&csv(Undecodable::DeadLetter), &path, from).unwrap().dead;
        let expected: Vec<_> = expected.iter().filter(|(start, ..)| *start >= from).collect();
        assert_eq!(letters.len(), expected.len());
        for (letter, (start, raw, line)) in letters.iter().zip(expected) {
            assert_eq!((letter.position, &letter.raw[..]), (*start, raw.as_bytes()));
            assert!(letter.error.starts_with(&format!("line {line}: ")), "{}", letter.error);
        }
    }
}

#[test]
fn a_limit_counts_bad_rows_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "a.csv", b"id,name,note\nx\ny\n1,a,b\nz\n2,a,b\n");
    for policy in [Undecodable::Skip, Undecodable::DeadLetter] {
        let source = csv(policy);
        let mut reader = source.open(&path, &Resume::default()).unwrap();
        let mut fetched = Fetched::default();
        assert_eq!(reader.read(3, &mut fetched).unwrap(), ReadState::More);
        assert_eq!((fetched.len(), fetched.rows.len()), (3, 1));
        let mut fetched = Fetched::default();
        assert_eq!(reader.read(3, &mut fetched).unwrap(), ReadState::End);
        assert_eq!((fetched.len(), fetched.rows.len()), (2, 1));
    }
}

#[test]
fn a_missing_header_stops_the_flow_whatever_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = |content: &[u8]| write(&dir, "a.csv", content);
    for (content, why) in [
        (&b""[..], "is empty: it lacks the header row"),
        (b"\n\r\n\n", "is empty: it lacks the header row"),
        (b"1,ann,x\n2,bob,y\n", "header row `1,ann,x` lacks a column: missing field `id`"),
        (b"id,\xff,note\n", "is not valid UTF-8"),
    ] {
        let error = read_all(&csv(Undecodable::Skip), &path(content), 0).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Bytes that do not compress, so that a damaged place is in the middle of the rows.
fn noisy(line: impl Fn(u64) -> String) -> Vec<u8> {
    (0..20_000_u64).flat_map(|n| line(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()).collect()
}

#[test]
fn damaged_compression_stops_the_flow_whatever_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let rows = noisy(|n| format!("1,{n},\n"));
    let csv_content = [b"id,name,note\n", &rows[..]].concat();
    let json_content = noisy(|n| format!("{{\"id\":1,\"name\":\"{n}\"}}\n"));
    for is_csv in [true, false] {
        let content = if is_csv { &csv_content } else { &json_content };
        for (ending, whole) in packed(content).into_iter().skip(1) {
            let mut flipped = whole.clone();
            let middle = flipped.len() / 2;
            flipped[middle..middle + 64].fill(0x55);
            let cut = whole[..whole.len() * 2 / 3].to_vec();
            let tail_cut = whole[..whole.len() - 3].to_vec();
            let trailing = [&whole[..], b"trailing garbage"].concat();
            for (how, bytes) in [
                ("flipped", flipped),
                ("cut", cut),
                ("cut at the tail", tail_cut),
                ("with trailing bytes", trailing),
                ("not compressed", b"not compressed".to_vec()),
            ] {
                let path = write(&dir, &format!("a{ending}"), &bytes);
                let error = if is_csv {
                    read_all(&csv(Undecodable::Skip), &path, 0).err()
                } else {
                    read_all(&json(Undecodable::Skip), &path, 0).err()
                };
                let Some(error) = error else { panic!("`{ending}` {how} was read to the end") };
                assert_eq!(error.kind(), ErrorKind::Input, "{error}");
                assert!(error.to_string().contains("truncated or damaged"), "{error}");
                assert!(error.source().is_some());
            }
        }
    }
}

#[test]
fn a_record_without_end_stops_the_flow() {
    let dir = tempfile::tempdir().unwrap();
    let endless = "x".repeat(input::RECORD_LIMIT_BYTES + 200_000);
    let path = write(&dir, "a.csv", format!("id,name,note\n1,a,b\n2,\"{endless}").as_bytes());
    let error = read_all(&csv(Undecodable::Skip), &path, 0).unwrap_err();
    assert!(error.to_string().contains("is a quote not closed?"), "{error}");
    assert_eq!(error.position(), Some(19));
    let path = write(&dir, "a.jsonl", format!("{{\"id\":1,\"name\":\"\"}}\n{endless}").as_bytes());
    let error = read_all(&json(Undecodable::Skip), &path, 0).unwrap_err();
    assert!(error.to_string().contains("line 2: longer than 16777216 bytes"), "{error}");
    let path = write(&dir, "b.csv", format!("id,{endless}").as_bytes());
    let error = read_all(&csv(Undecodable::Skip), &path, 0).unwrap_err();
    assert!(error.to_string().contains("header row"), "{error}");
}

#[test]
fn an_unreadable_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("gone.csv").display().to_string();
    let folder = dir.path().display().to_string();
    for path in [&missing, &folder] {
        for error in [
            read_all(&csv(Undecodable::Skip), path, 0).unwrap_err(),
            read_all(&json(Undecodable::Skip), path, 0).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(error.to_string().contains(path) && error.source().is_some(), "{error}");
        }
    }
}
