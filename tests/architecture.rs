//! The rules of the house, held by a scan of the source text, so that nobody has to.
//!
//! Each rule is a function from a file to its offences. `every_rule_can_fail` shows each a
//! snippet that breaks it.

use std::path::{Path, PathBuf};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
const LINE_CHARS: usize = 100;

/// A file of the project: its path from the root, and its code without comments, string
/// contents and unit tests. Lines keep their numbers.
struct File {
    path: String,
    code: Vec<String>,
    text: String,
}

struct Rule {
    name: &'static str,
    applies: fn(&str) -> bool,
    check: fn(&File) -> Vec<String>,
    /// A path and a snippet that break the rule.
    bad: (&'static str, fn() -> String),
}

fn is_test_path(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "tests.rs" || name.ends_with("_tests.rs")
}

fn in_src(path: &str) -> bool {
    (path.starts_with("src/") || path.starts_with("state/src/")) && !is_test_path(path)
}

fn in_library(path: &str) -> bool {
    in_src(path) && !path.starts_with("src/bin/")
}

fn is_pure(path: &str) -> bool {
    const PURE: [&str; 5] =
        ["src/time/", "src/window/", "src/aggregate/", "src/keyed/", "src/operator/"];
    in_src(path) && PURE.iter().any(|p| path.starts_with(p)) && path != "src/time/clock.rs"
}

/// Blanks out comments and the contents of strings and characters, keeping line breaks.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    while i < chars.len() {
        let before = if i == 0 { ' ' } else { chars[i - 1] };
        let in_word = before.is_alphanumeric() || before == '_';
        if at(i) == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if at(i) == '/' && at(i + 1) == '*' {
            while i < chars.len() && !(chars[i] == '*' && at(i + 1) == '/') {
                if chars[i] == '\n' {
                    out.push('\n');
                }
                i += 1;
            }
            i += 2;
        } else if at(i) == 'r' && !in_word && (at(i + 1) == '"' || at(i + 1) == '#') {
            i = skip_raw_string(&chars, i, &mut out);
        } else if at(i) == '"' {
            out.push('"');
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                if chars[i] == '\n' || (chars[i] == '\\' && at(i + 1) == '\n') {
                    out.push('\n');
                }
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            out.push('"');
            i += 1;
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && chars[i] != '\'' {
                i += 1;
            }
            out.push_str("' '");
            i += 1;
        } else {
            out.push(chars[i]);
            i += 1;
        }
    }
    out
}

/// Skips `r"..."` or `r#"..."#` from its `r`; a raw identifier is passed on.
fn skip_raw_string(chars: &[char], start: usize, out: &mut String) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + 1 + hashes) != Some(&'"') {
        out.push('r');
        return start + 1;
    }
    let mut i = start + 2 + hashes;
    while i < chars.len() {
        let tail = &chars[i + 1..];
        if chars[i] == '"' && tail.iter().take_while(|c| **c == '#').count() >= hashes {
            break;
        }
        if chars[i] == '\n' {
            out.push('\n');
        }
        i += 1;
    }
    out.push_str("\"\"");
    i + 1 + hashes
}

/// Blanks out the items behind `#[cfg(test)]`: a `mod tests { .. }` or one line.
fn without_tests(code: &str) -> Vec<String> {
    let mut lines: Vec<String> = code.lines().map(str::to_owned).collect();
    let mut index = 0;
    while index < lines.len() {
        if lines[index].trim() != "#[cfg(test)]" {
            index += 1;
            continue;
        }
        let mut depth = 0i64;
        let mut opened = false;
        while index < lines.len() {
            let line = std::mem::take(&mut lines[index]);
            depth += braces(&line);
            opened |= line.contains('{');
            index += 1;
            let ended = line.trim_end().ends_with(';') && !opened;
            if ended || (opened && depth == 0) {
                break;
            }
        }
    }
    lines
}

fn braces(line: &str) -> i64 {
    line.chars().map(|c| i64::from(c == '{') - i64::from(c == '}')).sum()
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&without_comments_and_strings(text));
        File { path: path.to_owned(), code, text: text.to_owned() }
    }

    /// Lines of code that hold one of these words.
    fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for (number, line) in self.code.iter().enumerate() {
            for word in words.iter().filter(|word| has_word(line, word)) {
                found.push(format!("{}:{}: {word}", self.path, number + 1));
            }
        }
        found
    }
}

/// Whether `word` stands in the line, and is no part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let starts_name = is_name(word.chars().next());
        let before = is_name(line[..at].chars().next_back()) && starts_name;
        let ends_name = is_name(word.chars().next_back());
        let after = is_name(line[at + word.len()..].chars().next()) && ends_name;
        !before && !after
    })
}

/// `time <- window <- keyed <- operator <- engine`: what a folder of the chain must not name.
fn against_the_direction(file: &File) -> Vec<String> {
    const CHAIN: [&str; 5] = ["time", "window", "keyed", "operator", "engine"];
    let Some(place) = CHAIN.iter().position(|f| file.path.starts_with(&format!("src/{f}/"))) else {
        return Vec::new();
    };
    let later: Vec<String> = CHAIN[place + 1..].iter().map(|f| format!("crate::{f}::")).collect();
    let mut words: Vec<&str> = later.iter().map(String::as_str).collect();
    // Sinks, sources, commits and flows stand beside the engine.
    words.extend(["crate::flow::", "crate::tick::", "crate::handle::", "crate::testing::"]);
    if CHAIN[place] == "engine" {
        words.retain(|word| word.starts_with("crate::testing"));
    }
    file.lines_with(&words)
}

fn state_knows_no_streams(file: &File) -> Vec<String> {
    file.lines_with(&["highwater::", "timely", "tokio", "EventTime", "Watermark"])
}

fn names_timely(file: &File) -> Vec<String> {
    file.lines_with(&["timely"])
}

fn names_rocksdb(file: &File) -> Vec<String> {
    file.lines_with(&["rocksdb"])
}

fn names_bincode(file: &File) -> Vec<String> {
    file.lines_with(&["bincode"])
}

fn is_impure(file: &File) -> Vec<String> {
    file.lines_with(&[
        "std::fs",
        "std::net",
        "std::io",
        "SystemTime",
        "Instant",
        "tokio",
        "timely",
        "rocksdb",
        "std::thread::sleep",
    ])
}

fn reads_the_clock(file: &File) -> Vec<String> {
    file.lines_with(&["SystemTime", "Instant"])
}

fn starts_threads(file: &File) -> Vec<String> {
    file.lines_with(&["thread::spawn", "thread::Builder", "tokio::spawn", "runtime::Builder"])
}

/// Iteration over them has another order in each process; `BTreeMap` and hashbrown with a fixed
/// hash do not.
fn uses_std_hash_maps(file: &File) -> Vec<String> {
    let std_maps = |line: &&String| {
        line.contains("std::collections")
            && (has_word(line, "HashMap") || has_word(line, "HashSet"))
    };
    let found = file.code.iter().filter(std_maps);
    found.map(|line| format!("{}: {}", file.path, line.trim())).collect()
}

fn may_panic(file: &File) -> Vec<String> {
    file.lines_with(&[
        ".unwrap()",
        ".expect(",
        "panic!",
        "todo!",
        "unimplemented!",
        "unreachable!",
        "dbg!",
    ])
}

fn prints_to_anybody(file: &File) -> Vec<String> {
    let prints = |line: &&String| {
        ["print!", "println!", "eprint!", "eprintln!"].iter().any(|name| has_word(line, name))
    };
    let found = file.code.iter().filter(prints);
    found.map(|line| format!("{}: {}", file.path, line.trim())).collect()
}

fn is_too_long(file: &File) -> Vec<String> {
    let lines = file.code.iter().filter(|line| !line.trim().is_empty()).count();
    if lines <= FILE_LINES {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines of code, more than {FILE_LINES}", file.path)]
}

fn has_long_functions(file: &File) -> Vec<String> {
    let mut offences = Vec::new();
    let starts = file.code.iter().enumerate().filter(|(_, line)| has_word(line, "fn"));
    for (start, first) in starts {
        let mut depth = 0;
        let mut opened = false;
        for (end, line) in file.code.iter().enumerate().skip(start) {
            depth += braces(line);
            opened |= line.contains('{');
            let declared_only = !opened && line.trim_end().ends_with(';');
            if declared_only || (opened && depth <= 0) {
                let lines = end + 1 - start;
                if lines > FUNCTION_LINES {
                    let path = &file.path;
                    let (at, name) = (start + 1, first.trim());
                    offences.push(format!("{path}:{at}: {lines} lines: {name}"));
                }
                break;
            }
        }
    }
    offences
}

fn has_long_lines(file: &File) -> Vec<String> {
    let long = |(_, line): &(usize, &str)| {
        // A table in a comment, or a string that is text to compare with, may not be breakable.
        line.chars().count() > LINE_CHARS && !line.trim_start().starts_with("/// |")
    };
    let lines = file.text.lines().enumerate().filter(long);
    lines.map(|(number, _)| format!("{}:{}: a long line", file.path, number + 1)).collect()
}

const RULES: &[Rule] = &[
    Rule {
        name: "imports go time <- window <- keyed <- operator <- engine",
        applies: in_src,
        check: against_the_direction,
        bad: ("src/window/x.rs", || "use crate::operator::Logic;".to_owned()),
    },
    Rule {
        name: "state/ knows nothing of streams or time",
        applies: |path| path.starts_with("state/src/"),
        check: state_knows_no_streams,
        bad: ("state/src/x.rs", || "fn f(t: EventTime) {}".to_owned()),
    },
    Rule {
        name: "only src/engine imports timely",
        applies: |path| in_src(path) && !path.starts_with("src/engine/"),
        check: names_timely,
        bad: ("src/operator/x.rs", || "use timely::dataflow::Scope;".to_owned()),
    },
    Rule {
        name: "only state/src/base/rocks.rs imports rocksdb",
        applies: |path| in_src(path) && path != "state/src/base/rocks.rs",
        check: names_rocksdb,
        bad: ("src/tick/x.rs", || "let db = rocksdb::DB::open(path);".to_owned()),
    },
    Rule {
        name: "only state/src/codec.rs imports bincode",
        applies: |path| in_src(path) && path != "state/src/codec.rs",
        check: names_bincode,
        bad: ("state/src/x.rs", || "use bincode::config;".to_owned()),
    },
    Rule {
        name: "pure folders have no clock, no I/O, no tokio, no timely",
        applies: is_pure,
        check: is_impure,
        bad: ("src/keyed/x.rs", || "let now = std::time::Instant::now();".to_owned()),
    },
    Rule {
        name: "the system clock is read in src/time/clock.rs and the command line only",
        applies: |path| in_library(path) && path != "src/time/clock.rs",
        check: reads_the_clock,
        bad: ("src/engine/x.rs", || "let now = SystemTime::now();".to_owned()),
    },
    Rule {
        // Lookups are asked on a thread of their own, so that no worker waits for one.
        // So is a source that asks a database. The client of Kafka is served by one.
        name: "threads start in engine/{live,lane,lookup}, source/{tcp,postgres}, postgres/, \
               source/kafka/running, kafka/caller, \
               latency/paced, the bin only",
        applies: |path| {
            let engine = ["live", "lane", "lookup"].map(|file| format!("src/engine/{file}.rs"));
            in_library(path)
                && !engine.iter().any(|file| file == path)
                && !path.starts_with("src/source/tcp")
                && !path.starts_with("src/source/postgres")
                && !path.starts_with("src/postgres/")
                && path != "src/source/kafka/running.rs"
                && path != "src/kafka/caller.rs"
                && path != "src/latency/paced.rs"
        },
        check: starts_threads,
        bad: ("src/sink/x.rs", || "let thread = std::thread::spawn(|| {});".to_owned()),
    },
    Rule {
        name: "no hash map of std: its order differs from process to process",
        applies: in_src,
        check: uses_std_hash_maps,
        bad: ("src/aggregate/x.rs", || "use std::collections::{BTreeMap, HashMap};".to_owned()),
    },
    Rule {
        name: "nothing panics outside of tests",
        // A bucket that a shard has just found is there, or memory is broken.
        applies: |path| in_src(path) && path != "state/src/table/shard.rs",
        check: may_panic,
        bad: ("src/engine/x.rs", || "fn f() { g().unwrap(); }".to_owned()),
    },
    Rule {
        name: "the command line prints by say.rs: the macros of std panic when a pipe is closed",
        applies: |path| path.starts_with("src/bin/"),
        check: prints_to_anybody,
        bad: ("src/bin/highwater/x.rs", || "println!();".to_owned()),
    },
    Rule {
        name: "a file has at most 400 lines of code",
        applies: in_src,
        check: is_too_long,
        bad: ("src/engine/x.rs", || "f();\n".repeat(FILE_LINES + 1)),
    },
    Rule {
        name: "a function has at most 70 lines",
        applies: in_src,
        check: has_long_functions,
        bad: ("src/engine/x.rs", || format!("fn f() {{{}}}", "\n".repeat(FUNCTION_LINES))),
    },
    Rule {
        name: "a line has at most 100 characters",
        applies: |path| path.ends_with(".rs") && !path.starts_with("tests/examples.rs"),
        check: has_long_lines,
        bad: ("src/x.rs", || "x".repeat(LINE_CHARS + 1)),
    },
];

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn project() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "state/src", "tests", "examples", "benches", "fuzz/fuzz_targets"] {
        collect(&root.join(folder), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        File::new(name, &std::fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

#[test]
fn every_rule_holds() {
    let files = project();
    assert!(
        files.iter().filter(|file| in_src(&file.path)).count() > 50,
        "the scan found too little"
    );
    let mut offences = Vec::new();
    for rule in RULES {
        for file in files.iter().filter(|file| (rule.applies)(&file.path)) {
            let found = (rule.check)(file);
            offences.extend(found.into_iter().map(|offence| format!("{offence}  ({})", rule.name)));
        }
    }
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    for rule in RULES {
        let (path, snippet) = rule.bad;
        assert!((rule.applies)(path), "{} does not look at {path}", rule.name);
        let found = (rule.check)(&File::new(path, &snippet()));
        assert!(!found.is_empty(), "{} does not see its bad snippet", rule.name);
    }
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = "// x.unwrap()\nlet a = \"b.unwrap()\"; /* .unwrap() */\nlet c = '\"'; d.unwrap();\n\
                let e = r#\"f.unwrap()\"#;\n#[cfg(test)]\nmod tests {\n    g.unwrap();\n}\n\
                h.unwrap();";
    let file = File::new("src/x.rs", text);
    assert_eq!(may_panic(&file), ["src/x.rs:3: .unwrap()", "src/x.rs:9: .unwrap()"]);
}
