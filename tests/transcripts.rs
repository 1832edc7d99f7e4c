//! Every transcript in `tests/transcripts` is played as it is written and, where it may, in every
//! variation; every one in `tests/transcripts/rejected` must be refused, for its reason, and every
//! one in `tests/transcripts/different` must fail, with what is in dispute.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater::testing::Transcript;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn transcripts(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_transcript_in_every_variation() {
    let paths = transcripts(&folder());
    let next = AtomicUsize::new(0);
    let play_some = || {
        let (mut variations, mut failures) = (0, Vec::new());
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let text = std::fs::read_to_string(path).unwrap();
            let played = Transcript::parse(&name(path), &text)
                .map_err(|malformed| malformed.to_string())
                .and_then(|transcript| transcript.play().map_err(|d| d.to_string()));
            match played {
                Ok(played) => variations += played.variations(),
                Err(failure) => failures.push(failure),
            }
        }
        (variations, failures)
    };
    let (mut variations, mut failures) = (0, Vec::new());
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..2).map(|_| scope.spawn(play_some)).collect();
        for player in players {
            let (played, failed) = player.join().unwrap();
            variations += played;
            failures.extend(failed);
        }
    });
    println!("transcripts: {} played, in {variations} variations", paths.len());
    failures.sort();
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    assert!(paths.len() >= 340, "{} transcripts are left", paths.len());
}

/// Beside each of them stands what the refusal must say.
#[test]
fn what_is_no_transcript_is_refused_for_its_reason() {
    let paths = transcripts(&folder().join("rejected"));
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let why = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        match Transcript::parse(&name(path), &text) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(malformed) => {
                let refusal = malformed.to_string();
                assert!(refusal.contains(why.trim()), "{refusal}\nis not because of\n{why}");
                assert!(refusal.starts_with(&name(path)), "{refusal}");
            }
        }
    }
    println!("transcripts: {} rejected", paths.len());
    assert!(paths.len() >= 50, "{} are left", paths.len());
}

/// Beside each of them stands all that must be said of the difference.
#[test]
fn what_differs_is_told_with_what_is_in_dispute() {
    let paths = transcripts(&folder().join("different"));
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let wanted = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        let transcript = Transcript::parse(&name(path), &text).unwrap();
        assert_eq!(transcript.play().unwrap_err().to_string(), wanted.trim());
    }
    assert!(paths.len() >= 9, "{} are left", paths.len());
}

/// A transcript that passes must fail if any one of its expected rows is left out or changed:
/// otherwise it shows nothing.
#[test]
fn a_transcript_fails_if_what_it_expects_is_changed() {
    let mut tried = 0;
    for path in transcripts(&folder()).iter().step_by(3) {
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let Some(at) = lines.iter().position(|l| l.starts_with("{\"expect\": [{")) else {
            continue;
        };
        let mut without: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        without[at] = "{\"expect\": []}".to_owned();
        let transcript = Transcript::parse(&name(path), &without.join("\n")).unwrap();
        let difference = transcript.play().unwrap_err().to_string();
        assert!(difference.contains("unexpected row"), "{difference}");
        tried += 1;
    }
    assert!(tried > 20, "{tried} were tried");
}

fn highwater(arguments: &[&Path]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.arg("transcript").args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_command_tells_by_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"about": "one window", "flow": [{"tumbling": {"size": 10}}]}"#;
    let write = |name: &str, rest: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{header}\n{rest}\n")).unwrap();
        path
    };
    let right = "{\"in\": {\"time\": 1}}\n\"finish\"\n{\"expect\": [{\"end\": 10, \"value\": 1}]}";
    let right = write("right.jsonl", right);
    let wrong = write("wrong.jsonl", "{\"in\": {\"time\": 1}}\n\"finish\"\n{\"expect\": []}");
    let malformed = write("malformed.jsonl", "{\"inn\": {\"time\": 1}}");

    let (code, printed) = highwater(&[&right]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("pass") && printed.contains("1 of 1"), "{printed}");

    let (code, printed) = highwater(&[&right, &wrong]);
    assert_eq!(code, 1, "{printed}");
    let row = r#"unexpected row: {"end":10,"key":"k","start":0,"value":1}"#;
    assert!(printed.contains("wrong.jsonl:4") && printed.contains(row), "{printed}");

    let (code, printed) = highwater(&[&wrong, &malformed]);
    assert_eq!(code, 2, "{printed}");
    assert!(printed.contains("malformed.jsonl:2: unknown step `inn`"), "{printed}");
    assert_eq!(highwater(&[&dir.path().join("none.jsonl")]).0, 2);
}

/// What `docs/TRANSCRIPTS.md` shows is played, and what it says of variations is counted.
#[test]
fn the_description_shows_what_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TRANSCRIPTS.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut blocks = text.split("```jsonl\n").skip(1);
    let shown = blocks.next().and_then(|rest| rest.split("```").next()).unwrap();
    let played = Transcript::parse("closes.jsonl", shown).unwrap().play().unwrap();
    assert!(text.contains(&format!("in {} variations too", played.variations())));
    assert!(text.contains(&format!("played again in {} ways", played.variations())));
}

#[test]
fn the_command_prints_the_description() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TRANSCRIPTS.md");
    let (code, printed) = highwater(&[Path::new("--format")]);
    assert_eq!((code, printed), (0, std::fs::read_to_string(path).unwrap()));
}

/// As a shell reports of any command whose reader has gone: no panic, and not the code of success.
#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let transcript = folder().join("fires-once.jsonl");
    let transcript = transcript.to_str().unwrap();
    for arguments in [&["transcript", transcript][..], &["transcript", "--format"], &["plan"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.args(arguments).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(141), "{arguments:?}");

        // Complaints that nobody hears change nothing.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let status = command.args(["state", "ls", "/no/such/state"]).stderr(writer).status();
        assert_eq!(status.unwrap().code(), Some(1));
    }
}
